#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `tidemark query`: what comes back, in which order, and what is said of what cannot.

# shellcheck disable=SC2030,SC2031,SC2154	# stderr is bats'; a test is a subshell

load lab

setup() {
	lab_make
	TESTS=${BUILD:-.build}/tests
	REC=$DIR/rec
}

teardown() {
	lab_clean
}

trace() { # PACKETS SEED
	"$TESTS/gen_trace" -x -p "$1" -f $(($1 / 8)) -s "$2" >"$DIR/t.pcap"
}

segments() { # DIR [OPTION...]
	local dir=$1

	shift
	"$TESTS/gen_segments" -d "$dir" "$@" "$DIR/t.pcap"
}

query() {
	"$TIDEMARK" query -d "$REC" "$@"
}

@test "what a killed recorder left is sealed at the next start, and nothing of it is lost" {
	trace 4000 10
	segments "$REC" -s 1m -l
	before=$(query --count)
	[ "$before" -eq 4000 ]
	segments "$REC" -s 1m -H other
	[ -z "$(find "$REC" -name '*.journal')" ]
	[ "$(query --count)" -eq 8000 ]
}

@test "the same record in two directories is answered once" {
	trace 3000 11
	segments "$REC" -s 1m
	cp -r "$REC" "$DIR/copy"
	[ "$(query -d "$DIR/copy" --count 'tcp or not tcp')" -eq 3000 ]
	query -d "$DIR/copy" -w "$DIR/both.pcapng" udp
	query --by hlc -w "$DIR/one.pcapng" udp
	cmp "$DIR/both.pcapng" "$DIR/one.pcapng"
}

@test "stamps, marks and processes come back as comments that tshark shows" {
	trace 2000 12
	segments "$REC"
	query -w "$DIR/o.pcapng" 'mark 100/2 and comm nginx'
	run -0 --separate-stderr tshark -r "$DIR/o.pcapng" -T fields -e frame.comment
	[ "${#lines[@]}" -eq "$(query --count 'mark 100/2')" ]
	[ "${#lines[@]}" -gt 0 ]
	other=$(grep -cvE '^hlc=[0-9a-f]{16} mark=100/2:[0-9a-f]+ pid=10[0-9]{2} comm=nginx$' \
		<<<"$output") || true
	[ "$other" -eq 0 ]
	[ "$(query --count 'mark 101')" -eq 0 ]
}

@test "by stamp, stamps ascend; by time, times do; a limit stops" {
	trace 2000 13
	segments "$REC" -s 300k
	query --json --by hlc | jq -r .hlc >"$DIR/hlc"
	sort -c "$DIR/hlc"
	query --json | jq -r .wall >"$DIR/wall"
	sort -c "$DIR/wall"
	[ "$(wc -l <"$DIR/wall")" -eq 2000 ]
	[ "$(query --json --limit 7 | wc -l)" -eq 7 ]
	[ "$(query --json --limit 7 | tail -1 | jq -r .wall)" = "$(sed -n 7p "$DIR/wall")" ]
}

@test "since and until bound the answer" {
	trace 2000 14
	segments "$REC" -s 300k
	middle=$(query --json | sed -n 1000p | jq -r .wall)
	[ "$(query --since "$middle" --count)" -eq 1001 ]
	[ "$(query --until "$middle" --count)" -eq 1000 ]
	[ "$(query --since 1h --count)" -eq 0 ]
}

@test "budgets delete the oldest files, and flows are remembered longer than packets" {
	trace 20000 15
	segments "$REC" -s 1m -b 4m
	held=$(du -cb "$REC"/all/*.pcapng "$REC"/all/*.index | tail -1 | cut -f1)
	[ "$held" -le $((5 << 20)) ]
	[ "$held" -ge $((2 << 20)) ]
	count=$(query --count)
	[ "$count" -lt 20000 ]
	[ "$(query --flows --json | jq -s 'map(.packets_in + .packets_out) | add')" -eq 20000 ]
	[ "$(query --flows --json 'udp port 53' | jq -s 'length')" -gt 0 ]
}

@test "flow records keep to 64 MB, the oldest go, and none whose packets are there" {
	mkdir -p "$REC/all"
	for i in {0..29}; do
		truncate -s 3m "$REC/all/20200101-0000$((10 + i))-000000000.flows"
	done
	trace 3000 27
	segments "$REC" -s 100k
	flows=$(find "$REC" -name '*.flows' -printf '%s\n' | awk '{ n += $1 } END { print n }')
	[ "$flows" -le $((64 << 20)) ]
	[ "$flows" -gt $((56 << 20)) ]
	[ ! -e "$REC/all/20200101-000010-000000000.flows" ]
	[ -e "$REC/all/20200101-000039-000000000.flows" ]
	for file in "$REC"/all/*.index; do
		[ -e "${file%.index}.flows" ]
	done
}

@test "flows name their protocols as packets do, in words" {
	"$TESTS/gen_trace" -x -p 2000 -f 250 -s 33 >"$DIR/t.pcap"
	segments "$REC"
	query --flows --json | jq -r .proto | sort -u >"$DIR/flows"
	query --json | jq -r .proto | sort -u >"$DIR/packets"
	diff "$DIR/flows" "$DIR/packets"
	for word in tcp udp icmp igmp sctp udplite arp; do
		grep -qx "$word" "$DIR/flows"
	done
	COLUMNS=100 query --flows udplite --limit 1 | grep -E ' udplite +[0-9[]'
}

@test "an expression that is wrong is refused with its column, exit 2" {
	mkdir -p "$REC"
	run -2 query 'tcp and (port 80'
	[[ $output == *'column 17: '*' is missing here'* ]]
	[ "$(tail -1 <<<"$output")" = '                  ^' ]
	run -2 query 'hots 1'
	[[ $output == *hots*' is no word'* ]]
}

@test "a directory that is no record is said to be none, and others are answered from" {
	mkdir "$REC"
	run -1 --separate-stderr query --count 'host 192.0.2.1'
	[ -z "$output" ]
	[[ $stderr == *"$REC: no record is here"* ]]
	run -1 --separate-stderr "$TIDEMARK" query -d "$DIR/nowhere" --count tcp
	[ -z "$output" ]
	[[ $stderr == *nowhere*'No such file'* ]]
	trace 500 19
	segments "$DIR/good"
	run -1 --separate-stderr query -d "$DIR/nowhere" -d "$DIR/good" --count
	[ "$output" = 500 ]
	[[ $stderr == *'no record is here'*nowhere* ]]
	run -0 "$TIDEMARK" query -d "$DIR/good" --count 'host 192.0.2.1'
	[ "$output" = 0 ]
	# One that has been started and has nothing yet is a record.
	: >"$REC/stats.jsonl"
	run -0 query --count
	[ "$output" = 0 ]
}

@test "a class that may not be read is named, and the answer is not called whole" {
	trace 500 20
	segments "$REC"
	mkdir -m 0 "$REC/secret"
	run -1 --separate-stderr confined query -d "$REC" --count
	[ "$output" = 500 ]
	[[ $stderr == *"$REC/secret: Permission denied"* ]]
	chmod 0 "$REC"
	run -1 --separate-stderr confined query -d "$REC" --count
	[ -z "$output" ]
	[[ $stderr == *"$REC: Permission denied"* ]]
	chmod 700 "$REC"
}

# As root whom permissions bind.
confined() {
	setpriv --bounding-set=-dac_override,-dac_read_search "$TIDEMARK" "$@"
}

@test "follow ends when the time it was asked for has passed" {
	trace 500 21
	segments "$REC"
	all=$(query --count)
	run -0 timeout 5 "$TIDEMARK" query -d "$REC" --follow --until 1h --json
	[ "${#lines[@]}" -eq "$all" ]
	run -0 timeout 5 "$TIDEMARK" query -d "$REC" --follow --json 'before 2020-01-01 and udp'
	[ -z "$output" ]
	# One that is to come is waited for.
	until=$(date -u -d '+1 sec' +%FT%TZ)
	run -0 timeout 20 "$TIDEMARK" query -d "$REC" --follow --json --until "$until"
	[ "${#lines[@]}" -eq "$all" ]
	[ "$(date +%s)" -gt "$(date -d "$until" +%s)" ]
}

@test "a damaged segment or index is named, never answered from, and the others still answer" {
	trace 4000 16
	segments "$REC" -s 500k
	mapfile -t files < <(find "$REC" -name '*.pcapng' | sort)
	printf '\x5a' | dd of="${files[1]}" bs=1 seek=200000 conv=notrunc status=none
	query -w "$DIR/o.pcapng" 2>"$DIR/err" && false
	grep -q "$(basename "${files[1]}" .pcapng).*damaged" "$DIR/err"
	all=$(tshark -r "$DIR/o.pcapng" | wc -l)
	[ "$all" -gt 2000 ]
	[ "$all" -lt 4000 ]
	printf '\x5a\x5a\x5a\x5a' | dd of="${files[2]%.pcapng}.index" bs=1 seek=300 conv=notrunc \
		status=none
	run -1 query --count
	[[ $output == *"$(basename "${files[2]}" .pcapng)"*'record --reindex'* ]]
}

@test "follow goes on with what is recorded from then on, and ends by itself at its limit" {
	trace 3000 17
	segments "$REC" -s 400k
	"$TIDEMARK" query -d "$REC" --follow --json 'tcp or udp' >"$DIR/out" 2>"$DIR/err" &
	PIDS+=($!)
	now=$(query --count 'tcp or udp')
	await 10 lines_are "$DIR/out" "$now"
	segments "$REC" -s 400k -H other
	await 10 lines_are "$DIR/out" $((2 * now))
	kill -INT "${PIDS[0]}"
	await_end "${PIDS[0]}"
	[ ! -s "$DIR/err" ]
}

@test "follow through hundreds of files has each packet once, and a file of them at a time" {
	trace 300 24
	segments "$REC"
	"$TIDEMARK" query -d "$REC" --follow --json >"$DIR/out" 2>"$DIR/err" &
	PIDS+=($!)
	await 10 lines_are "$DIR/out" 300
	before=$(memory_kb $!)
	trace 9000 25
	segments "$REC" -s 16k
	[ "$(find "$REC" -name '*.index' | wc -l)" -gt 300 ]
	await 20 lines_are "$DIR/out" 9300
	segments "$REC" -s 16k -H other
	await 20 lines_are "$DIR/out" 18300
	echo "# $(($(memory_kb $!) - before)) KB more after $(find "$REC" -name '*.index' | wc -l) files" >&3
	[ "$(memory_kb $!)" -lt $((before + 2000)) ]
	kill -INT $!
	await_end $!
	[ ! -s "$DIR/err" ]
}

memory_kb() { # PID
	awk '$1 == "RssAnon:" { print $2 }' "/proc/$1/status"
}

@test "a FIFO where a file should be is named, and nobody waits for it" {
	trace 2000 26
	segments "$REC" -s 500k
	for ending in index journal pcapng joint1 flows; do
		mkfifo "$REC/all/20200101-000000-000000001.$ending"
		run timeout 10 "$TIDEMARK" query -d "$REC" --count udp
		[ "$status" -le 1 ]
		run timeout 10 "$TIDEMARK" query -d "$REC" --flows udp
		[ "$status" -le 1 ]
		run timeout 20 "$TIDEMARK" record -d "$REC" --reindex
		[ "$status" -le 1 ]
		run timeout 20 "$TIDEMARK" record --state-dir "$STATE" -d "$REC" -r "$DIR/t.pcap"
		[ "$status" -le 1 ]
		rm -f "$REC"/all/20200101-*
	done
	run -0 query --count
	[ "$output" = 12000 ]
}

lines_are() {
	[ "$(wc -l <"$1")" -eq "$2" ]
}

@test "indexes made anew from the packets alone say the same" {
	trace 6000 18
	segments "$REC" -s 1m -z
	segments "$REC" -s 1m -H other
	query --json | sort >"$DIR/before"
	[ "$(wc -l <"$DIR/before")" -eq 12000 ]
	rm "$REC"/all/*.index
	run -1 --separate-stderr query --count
	[ "$output" = 0 ]
	"$TESTS/gen_segments" -d "$REC" -R
	query --json | sort >"$DIR/after"
	cmp "$DIR/before" "$DIR/after"
	query -w "$DIR/o.pcapng" 'mark 100/2 and vlan'
	[ -s "$DIR/o.pcapng" ]
}

@test "a segment whose index is gone is named, and what is no segment of ours is not" {
	trace 3000 19
	segments "$REC" -s 200k
	file=$(find "$REC" -name '*.index' | sort | sed -n 3p)
	rm "$file"
	cp "$DIR/t.pcap" "$REC/all/mine.pcapng"
	run -1 --separate-stderr query --count udp
	[ "${#stderr_lines[@]}" -eq 1 ]
	[[ $stderr == *"${file%.index}: has no index; "*--reindex* ]]
	# Nor does --reindex cut off what is not a segment's.
	run -1 "$TIDEMARK" record -d "$REC" --reindex
	[[ $output == *"all/mine: damaged; no index was made"* ]]
	cmp "$DIR/t.pcap" "$REC/all/mine.pcapng"
	run -0 --separate-stderr query --count
	[ "$output" = 3000 ]
	[ -z "$stderr" ]
}

@test "a damaged segment is not made true by --reindex, but by who takes its index away" {
	trace 3000 20
	segments "$REC" -s 500k
	segments "$DIR/open" -s 10m -l
	mapfile -t files < <(find "$REC" -name '*.pcapng' | sort)
	for file in "${files[1]}" "$DIR"/open/all/*.pcapng; do
		printf '\x5a\x5a' | dd of="$file" bs=1 seek=200001 conv=notrunc status=none
	done
	: >"${files[2]}"
	run -1 "$TIDEMARK" record -d "$REC" --reindex
	[ "${#lines[@]}" -eq 2 ]
	[[ ${lines[0]} == *"${files[1]%.pcapng}: damaged: not what its index says"* ]]
	[[ ${lines[1]} == *"${files[2]%.pcapng}: damaged: not what its index says"* ]]
	run -1 "$TIDEMARK" record -d "$DIR/open" --reindex
	[[ $output == *"damaged; the next "*"puts it in order" ]]
	run -1 query -w "$DIR/o.pcapng"
	rm "${files[1]%.pcapng}.index" "${files[2]}" "${files[2]%.pcapng}.index"
	run -0 "$TIDEMARK" record -d "$REC" --reindex
	run -0 query -w "$DIR/o.pcapng"
}

@test "an answer is not written among the files it is read from" {
	trace 2000 22
	segments "$REC" -s 500k
	file=$(find "$REC" -name '*.pcapng' | head -1)
	cp "$file" "$DIR/keep"
	ln -s "$file" "$DIR/link.pcapng"
	for to in "$file" "$REC/all/new.pcapng" "$DIR/link.pcapng"; do
		run -2 query -w "$to" udp
		[[ $output == *"$to: is among the files of the record"*'write it elsewhere' ]]
	done
	run -2 "$TIDEMARK" query -d "$REC/all" -w "$REC/all/new.pcapng"
	cmp "$DIR/keep" "$file"
	[ ! -e "$REC/all/new.pcapng" ]
	run -0 query -w "$DIR/o.pcapng" udp
	run -0 query -w "$REC/beside.pcapng" udp
	cmp "$REC/beside.pcapng" "$DIR/o.pcapng"
}

@test "flows name their protocol as packets do" {
	trace 2000 23
	segments "$REC"
	jq -r .proto < <(query --json) | sort -u >"$DIR/packets"
	jq -r .proto < <(query --flows --json) | sort -u >"$DIR/flows"
	diff "$DIR/packets" "$DIR/flows"
	grep -qx udp "$DIR/flows"
	grep -qx arp "$DIR/flows"
}
