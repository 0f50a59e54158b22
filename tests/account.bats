#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Under load: each packet is accounted for, found soon, and no budget is exceeded.

# shellcheck disable=SC2030,SC2031,SC2034,SC2153	# a test is a subshell: what it sets is its own, or record.bash's

load lab.bash
load record.bash

setup() {
	lab_make
	TESTS=${BUILD:-.build}/tests
	OUT=$DIR/record
	[ -x "$TESTS/gen_trace" ] || skip 'no gen_trace: make packets'
	quiet_wire
	# A mirror port: what is sent to others has flows there, too.
	RECORD_IN=(nsenter --net=/run/netns/b --)
}

teardown() {
	lab_clean
}

query() {
	"$TIDEMARK" query -d "$OUT" "$@" 3>&-
}

of_class() { # FIELD
	"$TIDEMARK" show record --json --pin-dir "$PIN" | jq "select(.class == \"all\") | .$1"
}

holds() { # FIELD TEST VALUE
	test "$(of_class "$1")" "$2" "$3"
}

# In the intervals' lines, once it has ended.
sum_of() { # FIELD
	jq -s "map(.$1) | add" "$OUT/stats.jsonl"
}

in_gaps() {
	query --json | jq -s 'map(select(.gap) | .gap) | add // 0'
}

accounted() { # OFFERED
	[ $(($(of_class cut_packets) + $(of_class stored_packets) + $(ring_lost))) = "$1" ]
}

# What the kernel found no room for; what memory had none for is among those it stored.
ring_lost() {
	bpftool -j map dump pinned "$PIN/losses" | jq '
		map((.formatted // .) | select(.key.class < 32) | .value.packets) | add // 0'
}

@test "of all packets offered each is stored, cut or lost, exactly, whatever the overload" {
	local lost seed

	# While nobody reads the rings are full, and then more is read at once than memory may hold.
	record_start -d "$OUT" -i wb --class all:cutoff=15k,mem=1m --ring 8m
	for seed in 1 2 3; do
		trace_make 120000 6000 -s $seed
		[ $seed != 2 ] || kill -STOP "$RECORDER"
		replay >/dev/null
		kill -CONT "$RECORDER"
	done
	await 20 holds mem_bytes = 0
	await 10 accounted 360000
	record_stop
	lost=$(sum_of lost_packets)
	echo "# of 360000 packets $(sum_of cut_packets) were cut, $lost lost" >&3
	[ "$lost" -gt 10000 ]
	[ $(($(query --count 2>/dev/null) + $(sum_of cut_packets) + lost)) = 360000 ]
	[ "$(in_gaps)" = "$lost" ]
	query --json 2>/dev/null | jq -r 'select(.gap) | .reason' | sort -u >"$DIR/reasons"
	grep -q 'ring full' "$DIR/reasons"
	grep -q 'disk too slow' "$DIR/reasons"
}

@test "while 60000 packets a second come, eight queries at a time cost none of them" {
	local pids

	trace_make 300000 14000 -o -a 1.2
	record_start -d "$OUT" -i wb --class all:filesize=16m --ring 64m --cutoff 15k
	replay -r 60000 >"$DIR/replay.out" 3>&- &
	SENDER=$!
	until process_ended "$SENDER"; do
		pids=()
		for _ in 1 2 3 4 5 6 7 8; do
			query --count 'port 443 or udp' >>"$DIR/counts" 3>&- &
			pids+=($!)
		done
		wait "${pids[@]}"
	done
	wait "$SENDER"
	await 10 holds mem_bytes = 0
	[ "$(of_class lost_packets)" = 0 ]
	[ $(($(of_class stored_packets) + $(of_class cut_packets))) = 300000 ]
	record_stop
	echo "# $(wc -l <"$DIR/counts") queries meanwhile" >&3
	[ "$(wc -l <"$DIR/counts")" -gt 8 ]
	[ "$(query --count)" = "$(sum_of stored_packets)" ]
}

@test "while 60000 packets a second come, a packet is found within 100 ms of its arrival" {
	local median worst most

	ip -n a addr add 10.9.0.1/24 dev wa
	ip -n b addr add 10.9.0.2/24 dev wb
	for end in a b; do ip -n $end link set w$end arp on; done
	trace_make 600000 28000 -o -a 1.2
	record_start -d "$OUT" -i wb --ring 64m --cutoff 15k
	replay -r 60000 >"$DIR/replay.out" 3>&- &
	SENDER=$!
	await 10 holds stored_packets -gt 10000
	read -r median worst most <<<"$(in_node a python3 tests/fresh.py 10.9.0.2 7777 100 -- \
		"$TIDEMARK" query -d "$OUT" --follow --json 'udp port 7777')"
	kill -0 "$SENDER"
	echo "# found after $median ms (median of 100), 99 of them after $most, all after $worst" >&3
	[ "${median%.*}" -lt 100 ]
	wait "$SENDER"
	await 10 holds mem_bytes = 0
	[ "$(of_class lost_packets)" = 0 ]
	record_stop
}

# Of packets and their indexes.
disk_bytes() {
	find "$OUT/all" -type f ! -name '*.flows*' ! -name lock -printf '%s\n' 2>/dev/null |
		awk '{ n += $1 } END { print n + 0 }'
}

@test "a budget of bytes is held to within one file at every look while files fill in no time" {
	local over=0 now looks=0

	trace_make 200000 4000 -o
	record_start -d "$OUT" -i wb --class all:disk=16m,filesize=2m --ring 32m
	replay -r 40000 >"$DIR/replay.out" 3>&- &
	SENDER=$!
	until process_ended "$SENDER"; do
		now=$(disk_bytes)
		looks=$((looks + 1))
		[ "$now" -le "$over" ] || over=$now
	done
	await 10 holds mem_bytes = 0
	[ "$(of_class lost_packets)" = 0 ]
	record_stop
	echo "# in $looks looks at most $((over >> 10)) KB of a budget of 16384 KB" >&3
	[ "$looks" -gt 20 ]
	[ "$over" -gt $((14 << 20)) ]
	[ "$over" -le $((18 << 20)) ]
	[ "$(disk_bytes)" -le $((16 << 20)) ]
}

# From the first packet there is to the last.
disk_span() {
	of_class disk_ns
}

@test "no packet is kept for longer than its age while others come, but for a file's and a second's" {
	local span longest=0 looks=0

	trace_make 120000 6000 -o
	record_start -d "$OUT" -i wb --class all:age=2s,filesize=1m --ring 32m
	replay -r 15000 >"$DIR/replay.out" 3>&- &
	SENDER=$!
	until process_ended "$SENDER"; do
		span=$(disk_span)
		looks=$((looks + 1))
		[ "$span" -le "$longest" ] || longest=$span
	done
	record_stop
	echo "# in $looks looks at most $((longest / 1000000)) ms of packets that may be 2 s old" >&3
	[ "$looks" -gt 20 ]
	[ "$longest" -gt 1500000000 ]
	# Age is looked at once a second, and so is what is shown.
	[ "$longest" -lt 5000000000 ]
}

finds() { # COUNT
	[ "$(query --count)" -eq "$1" ]
}

@test "on a quiet link packets go when they are old, although their file is not full" {
	trace_make 100 10 -o
	record_start -d "$OUT" -i wb --class all:age=3s
	replay >/dev/null
	await 2 finds 100
	await 10 finds 0
	[ "$(disk_bytes)" = 0 ]
	record_stop
}

@test "a query returns all it began with although its files are deleted before it gets to them" {
	trace_make 60000 3000 -o
	record_start -d "$OUT" -i wb --class all:disk=200m,filesize=1m
	replay -r 30000 >/dev/null
	await 10 holds mem_bytes = 0
	await 10 holds stored_packets = 60000
	[ "$(query --count)" = 60000 ]
	record_stop
	# Nobody reads what it writes: it stands in the first file.
	mkfifo "$DIR/pipe"
	query -w - >"$DIR/pipe" 2>"$DIR/query.words" &
	ASKER=$!
	PIDS+=("$ASKER")
	start a python3 -c '
import os, sys, time
pipe = open(sys.argv[1], "rb", 0)
got = pipe.read(100)
print("reads", flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
open(sys.argv[3], "wb").write(got + pipe.read())
print("has read", flush=True)
' "$DIR/pipe" "$DIR/go" "$DIR/all.pcapng"
	await_line "$DIR/python3.out" reads
	record_start -d "$OUT" -i wb --class all:disk=2m,filesize=1m
	await 10 holds disk_files -le 2
	[ "$(find "$OUT/all" -name '*.index' | wc -l)" -le 2 ]
	touch "$DIR/go"
	await_line "$DIR/python3.out" 'has read' 20
	wait "$ASKER"
	record_stop
	[ "$(python3 "$BATS_TEST_DIRNAME/frames.py" count "$DIR/all.pcapng")" = 60000 ]
	[ "$(query --count)" -lt 5000 ]
}

# The trace over and over, until it is told to stop; then how many packets were sent.
sending_start() { # RATE
	(
		until [ -e "$DIR/stop" ]; do replay -r "$1"; done |
			awk '{ n += $1 } END { print n }' >"$DIR/sent"
	) 3>&- &
	SENDER=$!
}

@test "killed at 50 random moments while files are sealed, each that was answers, and little is lost" {
	local i count before=0 gaps sent rate=5000 took slowest=0

	trace_make 10000 500 -o
	RECORD_IN=()
	"$TIDEMARK" up -n netns:b --pin-dir "$PIN" --state-dir "$STATE" 3>&-
	record_start -d "$OUT" --class all:filesize=128k
	sending_start $rate
	RANDOM=11
	for ((i = 0; i < 50; i++)); do
		read -rt "0.$((RANDOM % 300 + 50))" <> <(:) || :
		kill -KILL "$RECORDER"
		wait "$RECORDER" || :
		# What has been told is there, also of the file that was being written.
		count=$(query --count 2>"$DIR/query.words")
		[ "$count" -ge "$before" ]
		before=$count
		took=${EPOCHREALTIME/./}
		record_start -d "$OUT" --class all:filesize=128k
		took=$((${EPOCHREALTIME/./} - took))
		[ $took -le $slowest ] || slowest=$took
	done
	touch "$DIR/stop"
	wait "$SENDER"
	sent=$(<"$DIR/sent")
	await 10 accounted "$sent"
	await 10 holds mem_bytes = 0
	record_stop
	[ "$(grep -cE 'cannot be recovered|not sealed' "$DIR/record.words")" = 0 ]
	count=$(query --count 2>"$DIR/query.words")
	# Rings that were full while nobody read them are told as ever.
	gaps=$(in_gaps 2>/dev/null)
	echo "# of $sent packets $((sent - count - gaps)) went with 50 kills, $gaps with full rings;" \
		"slowest start $((slowest / 1000)) ms; $(find "$OUT/all" -name '*.index' | wc -l) files" >&3
	[ "$count" -le "$sent" ]
	# What had been taken out of the rings and was not written: less than a second's, on a busy machine.
	[ $((sent - count - gaps)) -le $((50 * rate)) ]
	[ "$(find "$OUT/all" -name '*.index' | wc -l)" -gt 100 ]
	# By another reader, straight from the files.
	[ "$(python3 "$BATS_TEST_DIRNAME/frames.py" count "$OUT")" = "$count" ]
}
