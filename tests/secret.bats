#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Records that are encrypted: who has the key gets what a plain record gives, who has not gets nothing.

# Variables of bats and of lab.bash, and a test is a subshell:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash
load record.bash
load run.bash
load serve.bash

setup() {
	lab_make
	TESTS=${BUILD:-.build}/tests
	REC=$DIR/rec
	KEY=$DIR/key
	key_make "$KEY"
}

teardown() {
	lab_clean
}

key_make() { # FILE
	(umask 077 && head -c 32 /dev/urandom >"$1")
}

trace() { # PACKETS SEED
	"$TESTS/gen_trace" -p "$1" -f $(($1 / 8)) -s "$2" >"$DIR/t.pcap"
}

segments() { # DIR [OPTION...]
	"$TESTS/gen_segments" -d "$1" "${@:2}" "$DIR/t.pcap"
}

query() {
	"$TIDEMARK" query -d "$REC" "$@" 3>&-
}

with_key() {
	query --key-file "$KEY" "$@"
}

# For who calls the binary himself.
keyed_binary() {
	# shellcheck disable=SC2016	# that script's own
	printf '#!/bin/sh\nc=$1\nshift\nexec %s $c --key-file %s "$@"\n' \
		"$(realpath "$TIDEMARK")" "$KEY" >"$DIR/keyed"
	chmod +x "$DIR/keyed"
}

# What a record of UDP between 10.1.0.1 and 10.1.0.2 must not show: words of the payload, names
# of nodes and process, addresses.
shows() { # DIR
	python3 - "$1" <<-'END'
	import os, sys
	files = b''.join(open(os.path.join(sys.argv[1], f), 'rb').read() for f in os.listdir(sys.argv[1]))
	words = [b'tick-tock', b'client', b'server', b'python3']
	print(*(w.decode() for w in words if w in files),
	      *('address' for a in (1, 2) if bytes((10, 1, 0, a)) in files))
	END
}

# Of 200 stretches of the trace, 12 bytes each, how many are in files of DIR?
slices_in() { # DIR
	python3 - "$DIR/t.pcap" "$1" <<-'END'
	import os, random, sys
	trace = open(sys.argv[1], 'rb').read()
	files = b''.join(open(os.path.join(sys.argv[2], f), 'rb').read() for f in os.listdir(sys.argv[2]))
	random.seed(1)
	at, frames = 24, []
	while at < len(trace):
	    kept = int.from_bytes(trace[at + 8:at + 12], 'little')
	    frames.append(trace[at + 16:at + 16 + kept])
	    at += 16 + kept
	frames = [f for f in frames if len(f) > 80]
	print(sum(f[40:52] in files for f in random.sample(frames, 200)))
	END
}

same_answers() { # PLAIN-DIR
	local e

	for e in '' 'tcp port 443' 'net 10.0.0.0/8 and not udp' 'node web' 'comm nginx or vlan'; do
		[ "$(with_key --count "$e")" = "$("$TIDEMARK" query -d "$1" --count "$e")" ]
		diff <(with_key --flows "$e") <("$TIDEMARK" query -d "$1" --flows "$e") >/dev/null
		with_key -w "$DIR/one.pcapng" "$e"
		"$TIDEMARK" query -d "$1" -w "$DIR/other.pcapng" "$e"
		cmp "$DIR/one.pcapng" "$DIR/other.pcapng"
	done
}

wire_of_two() {
	node client server
	wire client server 1
}

# Fifty datagrams with words in them, and their echoes.
talk() {
	in_node client python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10)
for n in range(50):
    s.sendto(b"tick-tock %d" % n, ("10.1.0.2", 7))
    s.recv(100)
'
}

counted() { # COUNT EXPRESSION
	[ "$(with_key --count "$2")" = "$1" ]
}

# ---- the same answers --------------------------------------------------------------------

@test "an encrypted record answers as a plain one of the same packets, sealed, open and compressed" {
	trace 8000 21
	segments "$DIR/plain" -s 1m
	segments "$REC" -s 1m -k "$KEY"
	[ "$(find "$REC" -name '*.pcapng.enc' | wc -l)" -gt 3 ]
	[ "$(find "$REC" -name '*.pcapng' | wc -l)" -eq 0 ]
	same_answers "$DIR/plain"
	rm -r "$REC"
	segments "$REC" -s 1m -k "$KEY" -z
	[ "$(find "$REC" -name '*.pcapng.zst.enc' | wc -l)" -gt 3 ]
	[ "$(find "$REC" -name '*.pcapng.enc' | wc -l)" -eq 0 ]
	same_answers "$DIR/plain"
	rm -r "$REC"
	segments "$REC" -s 1m -k "$KEY" -l
	segments "$DIR/open" -s 1m -l
	find "$REC" -name '*.journal' | grep -q .
	same_answers "$DIR/open"
}

@test "generated queries of an encrypted record return the packets tshark would" {
	keyed_binary
	trace 5000 9
	segments "$REC" -s 1m -k "$KEY"
	run -0 python3 tests/query_oracle.py "$DIR/keyed" "$DIR/t.pcap" 25 4 "$REC"
	echo "$output"
	[[ $output =~ 25\ queries,.*\ 0\ wrong ]]
}

@test "a file recorded with a key comes back byte for byte, and nothing of it is in the record" {
	trace 3000 23
	run -0 "$TIDEMARK" record -d "$REC" -r "$DIR/t.pcap" --key-file "$KEY" --zstd
	run -0 "$TIDEMARK" record -d "$DIR/plain" -r "$DIR/t.pcap"
	diff <(with_key -w - | tshark -r - -x 2>/dev/null) <(tshark -r "$DIR/t.pcap" -x 2>/dev/null)
	[ "$(with_key --count)" = "$("$TIDEMARK" query -d "$DIR/plain" --count)" ]
	[ "$(slices_in "$DIR/plain/all")" = 200 ]
	[ "$(slices_in "$REC/all")" = 0 ]
}

# ---- nothing without it -------------------------------------------------------------------

@test "while it is recorded, and after, no file shows payload, addresses or names" {
	wire_of_two
	udp_echo_start server 10.1.0.2 7
	record_start -d "$REC" -n client -n server --key-file "$KEY"
	talk
	await 10 counted 200 'udp port 7'
	find "$REC" -name '*.journal' | grep -q .
	[ "$(shows "$REC/all")" = "" ]
	record_stop
	find "$REC" -name '*.index' | grep -q .
	find "$REC" -name '*.flows' | grep -q .
	[ "$(shows "$REC/all")" = "" ]
	counted 200 'udp and (node client or node server)'
	# Of a plain one, every one of these is found.
	record_start -d "$DIR/plain" -n client -n server
	talk
	record_stop
	[ "$(shows "$DIR/plain/all")" = 'tick-tock client server python3 address address' ]
}

@test "without the key, or with another, nothing is answered and the remedy is said once" {
	trace 3000 24
	segments "$REC" -s 500k -k "$KEY"
	key_make "$DIR/other"
	run -1 --separate-stderr query
	[ -z "$output" ]
	[ "${#stderr_lines[@]}" -eq 1 ]
	[[ $stderr == *"encrypted; --key-file FILE with its key reads it" ]]
	run -1 --separate-stderr query --key-file "$DIR/other" --count
	[ "$output" = 0 ]
	[ "${#stderr_lines[@]}" -eq 1 ]
	[[ $stderr == *"/all/"*": not with this key; --key-file may be given more than once" ]]
	run -1 --separate-stderr query --key-file "$DIR/other" --flows
	[[ $stderr == *"not with this key"* ]]
	run -1 "$TIDEMARK" record -d "$REC" --reindex
	[[ $output == *"encrypted; --key-file"* ]]
	counted 3000 ''
}

@test "keys that others can read, or that are none, are refused before anything is made" {
	chmod 640 "$KEY"
	run -2 "$TIDEMARK" record -d "$REC" -r "$DIR/none.pcap" --key-file "$KEY"
	[[ $output == *"$KEY: others than its owner can get at this key; chmod 600 $KEY" ]]
	[ ! -e "$REC" ]
	chmod 600 "$KEY"
	echo more >>"$KEY"
	run -2 "$TIDEMARK" record -d "$REC" -r "$DIR/none.pcap" --key-file "$KEY"
	[[ $output == *"a key is 32 bytes or 64 hexadecimal digits"* ]]
	run -2 "$TIDEMARK" query -d "$REC" --key-file "$DIR/nowhere"
	[[ $output == *"$DIR/nowhere: No such file or directory" ]]
	[ ! -e "$REC" ]
	key_make "$KEY"
	run -2 "$TIDEMARK" query --at "unix:$DIR/query" --key-file "$KEY"
	[[ $output == *"a daemon has keys of its own"* ]]
}

@test "a key in hexadecimal is the same with either kind of newline, and nothing more" {
	trace 1000 29
	(umask 077 && head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$KEY" &&
		echo >>"$KEY")
	segments "$REC" -k "$KEY"
	(umask 077 && tr -d '\n' <"$KEY" >"$DIR/none" && sed 's/$/\r/' "$KEY" >"$DIR/crlf" &&
		sed 's/$/\r\r/' "$KEY" >"$DIR/more" && sed G "$KEY" >"$DIR/two")
	[ "$(query --key-file "$DIR/none" --count)" = 1000 ]
	[ "$(query --key-file "$DIR/crlf" --count)" = 1000 ]
	for file in more two; do
		run -2 query --key-file "$DIR/$file" --count
		[[ $output == *"a key is 32 bytes or 64 hexadecimal digits"* ]]
	done
}

@test "a byte changed in any file of it is named, and costs no more than its segment" {
	trace 3000 25
	segments "$REC" -s 500k -k "$KEY"
	whole=$(with_key --count)
	[ "$whole" = 3000 ]
	for ending in pcapng.enc index; do
		file=$(find "$REC" -name "*.$ending" | sort | sed -n 2p)
		cp "$file" "$DIR/keep"
		printf '\xff\xff\xff\xff' | dd of="$file" bs=1 seek=3000 conv=notrunc status=none
		run -1 --separate-stderr with_key -w "$DIR/some.pcapng"
		[[ $stderr == *"$(basename "$file" ".$ending"): "*damaged* ]]
		tshark -r "$DIR/some.pcapng" -T fields -e frame.number | wc -l | {
			read -r n
			[ "$n" -lt 3000 ] && [ "$n" -gt 1000 ]
		}
		cp "$DIR/keep" "$file"
	done
	[ "$(with_key --count)" = 3000 ]
}

# ---- over time ----------------------------------------------------------------------------

@test "what a killed recorder left is put in order with its key, and not without" {
	wire_of_two
	udp_echo_start server 10.1.0.2 7
	record_start -d "$REC" -n client -n server --key-file "$KEY"
	talk
	await 10 counted 200 'udp port 7'
	kill -KILL "$RECORDER"
	wait "$RECORDER" || true
	counted 200 'udp port 7'
	find "$REC" -name '*.journal' | grep -q .
	key_make "$DIR/other"
	record_start -d "$REC" -n client -n server --key-file "$DIR/other"
	record_stop >"$DIR/said"
	grep 'cannot be recovered: not with this key' "$DIR/said"
	find "$REC" -name '*.journal' | grep -q .
	record_start -d "$REC" -n client -n server --key-file "$DIR/other" --key-file "$KEY"
	record_stop
	[ "$(find "$REC" -name '*.journal' | wc -l)" -eq 0 ]
	[ "$(shows "$REC/all")" = "" ]
	[ "$(query --key-file "$DIR/other" --key-file "$KEY" --count 'udp port 7')" = 200 ]
}

@test "plain files, and those of an older key, stay, and all are one answer" {
	trace 2000 26
	key_make "$DIR/new"
	segments "$REC" -s 500k
	segments "$REC" -s 500k -k "$KEY"
	segments "$REC" -s 500k -k "$DIR/new" -z
	[ "$(query --key-file "$DIR/new" --key-file "$KEY" --count)" = 6000 ]
	run -1 --separate-stderr with_key --count
	[ "$output" = 4000 ]
	[[ $stderr == *"not with this key"* ]]
	run -1 --separate-stderr query --count
	[ "$output" = 2000 ]
	# Nor does a recorder with none delete, for their age, what it cannot read.
	run -0 --separate-stderr "$TIDEMARK" record -d "$REC" -r "$DIR/t.pcap" \
		--class 'all:age=365d'
	[ "$(query --key-file "$DIR/new" --key-file "$KEY" --count)" -ge 4000 ]
}

magics() { # DIR MAGIC: files that begin with it
	find "$1" -type f -exec head -c 8 {} \; -exec echo \; | grep -ac "$2" || :
}

@test "indexes and joint indexes made anew with the key say the same, and are encrypted too" {
	trace 3000 27
	segments "$DIR/plain" -s 100k
	segments "$REC" -s 100k -k "$KEY"
	find "$REC" -name '*.joint1' | grep -q .
	same_answers "$DIR/plain"
	find "$REC" \( -name '*.index' -o -name '*.joint*' -o -name '*.flows' \) -delete
	[ "$(with_key --count)" = 0 ]
	run -0 "$TIDEMARK" record -d "$REC" --reindex --key-file "$KEY"
	same_answers "$DIR/plain"
	[ "$(magics "$REC" '^TM[A-RT-Z]')" = 0 ]
	[ "$(magics "$REC" '^TMSECRT1')" -ge 30 ]
	[ "$(magics "$DIR/plain" '^TMINDEX')" -ge 10 ]
	[ "$(magics "$DIR/plain" '^TMFLOWS')" -ge 10 ]
}

@test "files that age are compressed, and stay encrypted" {
	trace 3000 28
	segments "$REC" -s 500k -k "$KEY"
	files=$(find "$REC" -name '*.pcapng.enc' | wc -l)
	[ "$files" -gt 1 ]
	wire_of_two
	record_start -d "$REC" -n client --key-file "$KEY" --zstd=1s
	packed() { [ "$(find "$REC" -name '*.pcapng.zst.enc' | wc -l)" -ge "$files" ]; }
	await 30 packed
	[ "$(find "$REC" -name '*.zst' | wc -l)" -eq 0 ]
	record_stop
	[ "$(with_key --count 'not node client')" = 3000 ]
}

@test "follow goes on with what is recorded encrypted" {
	wire_of_two
	udp_echo_start server 10.1.0.2 7
	record_start -d "$REC" -n client --key-file "$KEY"
	with_key --follow --limit 100 --json 'udp port 7' >"$DIR/followed" &
	follow=$!
	PIDS+=("$follow")
	talk
	await_end "$follow" 20
	[ "$(wc -l <"$DIR/followed")" -eq 100 ]
	record_stop
}

# ---- the daemon ---------------------------------------------------------------------------

recorder() { # MORE-LINES-OF-RECORD
	cat <<-END
	nodes: [netns:client, netns:server]
	api: {listen: ["$API"]}
	record:
	  dir: $REC
	  socket: {path: $DIR/query}
	  $1
	END
}

@test "the daemon records with its key, and answers with it and those it had before" {
	wire_of_two
	udp_echo_start server 10.1.0.2 7
	run_start < <(recorder "key_file: $KEY")
	talk
	await 10 answers 200 'udp port 7'
	[ "$(shows "$REC/all")" = "" ]
	run -1 query --count
	[[ $output == *"encrypted; --key-file"* ]]
	counted 200 'udp port 7'
	key_make "$DIR/new"
	recorder "key_file: $DIR/new" | sed "\$a\\  old_key_files: [$KEY]" >"$DIR/run.yaml"
	kill -HUP "$RUN"
	new_file() { [ "$(find "$REC" -name '*.pcapng.enc' | wc -l)" -ge 2 ]; }
	talk
	await 10 answers 400 'udp port 7'
	new_file
	[ "$(query --key-file "$DIR/new" --key-file "$KEY" --count 'udp port 7')" = 400 ]
	run -1 --separate-stderr with_key --count 'udp port 7'
	[ "$output" = 200 ]
	[ "$(shows "$REC/all")" = "" ]
	run_stop
}

@test "a daemon without its key does not start, and one that runs goes on as before" {
	wire_of_two
	udp_echo_start server 10.1.0.2 7
	recorder "key_file: $DIR/nowhere" >"$DIR/wrong.yaml"
	run -2 "$TIDEMARK" run -c "$DIR/wrong.yaml" --check-config
	[[ $output == *"$DIR/nowhere: No such file or directory"* ]]
	recorder "key_file: key" >"$DIR/wrong.yaml"
	run -2 "$TIDEMARK" run -c "$DIR/wrong.yaml" --check-config
	[[ $output == *"key_file"*"not an absolute path"* ]]
	run_start < <(recorder "key_file: $KEY")
	recorder "key_file: $DIR/nowhere" >"$DIR/run.yaml"
	kill -HUP "$RUN"
	await_line "$DIR/run.words" 'nowhere: No such file'
	talk
	await 10 answers 200 'udp port 7'
	[ "$(shows "$REC/all")" = "" ]
	run_stop
}
