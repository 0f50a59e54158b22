#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Queries while recording goes on: fresh, many at once, over files that are compressed meanwhile.

# shellcheck disable=SC2030,SC2031,SC2153	# a test is a subshell: what it sets is its own

load lab

setup() {
	lab_make
	TESTS=${BUILD:-.build}/tests
	REC=$DIR/rec
	node a b
	wire a b 1
}

teardown() {
	lab_clean
}

query() {
	"$TIDEMARK" query -d "$REC" "$@"
}

# Only we speak on it.
hush() {
	for end in a b; do
		in_node "$end" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6' 2>/dev/null || :
		ip -n "$end" link set w1 mtu 2000 arp off multicast off
	done
}

recording() { # ARGS...
	"$TIDEMARK" record --pin-dir "$PIN" --state-dir "$STATE" -d "$REC" "$@" 2>"$DIR/words" \
		</dev/null 3>&- &
	RECORDER=$!
	PIDS+=("$RECORDER")
	await_line "$DIR/words" 'recording [0-9]+ nodes'
}

replay() { # PACKETS RATE
	"$TESTS/gen_trace" -p "$1" -f $(($1 / 12)) >"$DIR/t.pcap"
	in_node a "$TESTS/gen_replay" -i w1 -r "$2" "$DIR/t.pcap"
}

stored() { # FIELD
	"$TIDEMARK" show record --json --pin-dir "$PIN" | jq -s "map(.$1) | add"
}

holds() { # FIELD TEST VALUE
	test "$(stored "$1")" "$2" "$3"
}

finds() { # COUNT
	[ "$(query --count)" -eq "$1" ]
}

@test "a packet is found within 100 ms of its arrival, by a query and by one that follows" {
	recording -n netns:b
	read -r median worst _ <<<"$(in_node a python3 tests/fresh.py 10.1.0.2 7777 15 -- \
		"$TIDEMARK" query -d "$REC" --count 'udp port 7777')"
	echo "# found after $median ms (median of 15, worst $worst), the query's own start included" >&3
	[ "${median%.*}" -lt 100 ]
	read -r median worst _ <<<"$(in_node a python3 tests/fresh.py 10.1.0.2 7778 15 -- \
		"$TIDEMARK" query -d "$REC" --follow --json 'udp port 7778')"
	echo "# followed after $median ms (median of 15, worst $worst)" >&3
	[ "${median%.*}" -lt 100 ]
}

@test "many queries at once leave recording as it is, and each has a whole answer" {
	local total sender pids

	hush
	recording -n netns:b --class all:filesize=4m
	replay 60000 25000 3>&- &
	sender=$!
	until process_ended "$sender"; do
		pids=()
		for _ in 1 2 3 4; do
			query --count 'port 443 or udp' >>"$DIR/counts" 3>&- &
			pids+=($!)
		done
		wait "${pids[@]}"
	done
	wait "$sender"
	await 10 holds stored_packets -ge 60000
	[ "$(stored lost_packets)" -eq 0 ]
	total=$(stored stored_packets)
	await 10 finds "$total"
	# Each answer is of some moment: none is more than there was in the end.
	[ "$(sort -n "$DIR/counts" | tail -1)" -le "$(query --count 'port 443 or udp')" ]
	[ "$(wc -l <"$DIR/counts")" -gt 8 ]
}

# How many segments, beside the one that is written, are not compressed.
plain_left() {
	local plain=0 file

	for file in "$REC"/all/*.index; do
		[ ! -e "${file%.index}.pcapng" ] || ((plain += 1))
	done
	[ "$plain" -eq 0 ]
}

@test "files are compressed when they have aged, and answer alike before, meanwhile and after" {
	local total

	hush
	recording -n netns:b --class all:filesize=1m --zstd=2s
	replay 20000 20000
	await 10 holds stored_packets -ge 20000
	total=$(stored stored_packets)
	await 10 finds "$total"
	compgen -G "$REC/all/*.index" >/dev/null
	# Fresh ones are as they were written.
	compgen -G "$REC/all/*.pcapng" >/dev/null
	until plain_left; do
		finds "$total"
		((SECONDS < 60))
	done
	[ "$(find "$REC" -name '*.zst' | wc -l)" -gt 3 ]
	finds "$total"
	[ "$(query --count 'greater 0')" -eq "$total" ]
}
