#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# A recorder that is killed, has no room, or is flooded: what was kept answers, what was not is told.

# shellcheck disable=SC2030,SC2031,SC2153	# PID is set by start; a test is a subshell: what it sets is its own

load lab.bash
load record.bash

setup() {
	lab_make
	TESTS=${BUILD:-.build}/tests
	OUT=$DIR/record
	[ -x "$TESTS/gen_trace" ] || skip 'no gen_trace: make packets'
	quiet_wire
}

teardown() {
	lab_clean
	mountpoint -q "$DIR/small" && umount "$DIR/small"
	return 0
}

# From node a to b, one datagram after the other with its number, so many a second, until it
# is told to stop. Then says how many it sent.
numbers_start() { # RATE
	start a python3 -u -c '
import os, socket, sys, time
rate, stop = int(sys.argv[1]), sys.argv[2]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("wa", 0))
head = bytes.fromhex("ffffffffffff02000000000188b5")
n, began = 0, time.monotonic()
while not os.path.exists(stop):
    for _ in range(rate // 100):
        s.send(head + n.to_bytes(8, "big") + bytes(84))
        n += 1
    time.sleep(max(0, began + n / rate - time.monotonic()))
print("sent", n, flush=True)
' "$1" "$DIR/stop"
}

query() { # ARGS...
	"$TIDEMARK" query -d "$OUT" "$@" 3>&-
}

of_class() { # FIELD
	"$TIDEMARK" show record --json --pin-dir "$PIN" | jq "select(.class == \"all\") | .$1"
}

holds() { # FIELD TEST VALUE
	test "$(of_class "$1")" "$2" "$3"
}

# Of packets and their indexes, which is what a budget is of.
disk_bytes() {
	find "$OUT/all" -type f ! -name '*.flows*' ! -name lock -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'
}

disk_within() { # BYTES
	[ "$(disk_bytes)" -le "$1" ]
}

@test "killed at 50 random moments it is ready within 2 s, and lacks only what it had not told" {
	local i began sent got rate=2000 slowest=0 took

	"$TIDEMARK" up -n netns:b --pin-dir "$PIN" --state-dir "$STATE" 3>&-
	# What comes before anybody has begun to record is nobody's loss.
	record_start -d "$OUT"
	numbers_start $rate
	RANDOM=7
	for ((i = 0; i < 50; i++)); do
		sleep "0.$((RANDOM % 400 + 100))"
		kill -KILL "$RECORDER"
		wait "$RECORDER" || :
		began=${EPOCHREALTIME/./}
		record_start -d "$OUT"
		took=$((${EPOCHREALTIME/./} - began))
		[ $took -gt $slowest ] && slowest=$took
	done
	touch "$DIR/stop"
	await_line "$DIR/python3.out" '^sent'
	sent=$(sed -n 's/^sent //p' "$DIR/python3.out")
	await 5 holds stored_packets = "$sent"
	record_stop
	[ "$(grep -cE 'cannot be recovered|not sealed' "$DIR/record.words")" = 0 ]
	query 'ether proto 0x88b5' -w "$DIR/all.pcapng"
	got=$(python3 "$BATS_TEST_DIRNAME/frames.py" count "$DIR/all.pcapng")
	[ "$(query --count)" = "$got" ]
	echo "# of $sent packets $((sent - got)) went with 50 kills; slowest start $((slowest / 1000)) ms" >&3
	[ $slowest -lt 2000000 ]
	# A tenth of a second each, at most.
	[ $((sent - got)) -le $((50 * rate / 10)) ]
	[ "$got" -le "$sent" ]
	# And what the dead ones left is of the budget.
	record_start -d "$OUT" --class all:disk=2m,filesize=256k
	await 10 disk_within $((2 << 20))
	[ "$(of_class disk_files)" -gt 1 ]
	record_stop
}

@test "a byte flipped in an open segment is named, and costs what is near it, told as a gap" {
	local file lost

	trace_make 8000 400
	record_start -d "$OUT" -n netns:b
	replay -r 20000
	await 10 holds stored_packets = 8000
	await 5 counts 8000
	kill -KILL "$RECORDER"
	wait "$RECORDER" || :
	file=$(echo "$OUT"/all/*.pcapng)
	printf '\x5a' | dd of="$file" bs=1 seek=1000000 conv=notrunc status=none
	query --json >"$DIR/rows" 2>"$DIR/query.words" && false
	grep -F "$(basename "$file" .pcapng): damaged" "$DIR/query.words"
	record_start -d "$OUT"
	record_stop
	lost=$(sed -nE 's/.*damaged; ([0-9]+) packets are lost.*/\1/p' "$DIR/record.words")
	[ "$lost" -gt 0 ]
	[ "$lost" -lt 1000 ]
	[ "$(query --count 2>"$DIR/query.words")" = $((8000 - lost)) ]
	grep -E "$lost packets.*segment damaged" "$DIR/query.words"
	# To others it is whole, without what was damaged.
	[ "$(tshark -r "$file" 2>/dev/null | wc -l)" = $((8000 - lost)) ]
}

counts() { # PACKETS
	[ "$(query --count)" = "$1" ]
}

@test "a disk that was full is written again when there is room, and the gap can be asked for" {
	local lost

	trace_make 20000 1500
	mkdir "$DIR/small"
	mount -t tmpfs -o size=40m none "$DIR/small"
	head -c 34m /dev/zero >"$DIR/small/ballast"
	OUT=$DIR/small/record
	record_start -d "$OUT" -n netns:b --ring 64m
	replay -r 40000
	await_line "$DIR/record.words" 'No space left on device: packets are lost and counted'
	await 10 holds lost_packets -gt 1000
	rm "$DIR/small/ballast"
	await_line "$DIR/record.words" 'class all: written again'
	replay -r 40000
	await 10 holds stored_packets = 40000
	record_stop
	lost=$(jq -s 'map(.lost_packets) | add' "$OUT/stats.jsonl")
	# Who was sent them has them all.
	[ "$(in_node b cat /proc/net/dev | awk '$1 == "wb:" { print $3 }')" = 40000 ]
	[ "$(query --count 2>"$DIR/query.words")" = $((40000 - lost)) ]
	cat "$DIR/query.words"
	# In one gap, or in more if there was room for a moment.
	[ "$(sed -n 's/.* \([0-9]*\) packets.*disk full or failing.*/\1/p' "$DIR/query.words" |
		awk '{ n += $1 } END { print n }')" = "$lost" ]
	umount "$DIR/small"
}

@test "a budget of bytes holds to within one file while packets come in" {
	local over=0 now

	trace_make 60000 3000
	record_start -d "$OUT" -n netns:b --class all:disk=4m,filesize=1m
	replay -r 20000 >"$DIR/replay.out" &
	while kill -0 $! 2>/dev/null; do
		now=$(disk_bytes 2>/dev/null)
		[ "$now" -gt "$over" ] && over=$now
	done
	wait $!
	await 10 holds stored_packets = 60000
	await 10 disk_within $((5 << 20))
	echo "# of a budget of 4 MB at most $((over >> 10)) KB were on disk" >&3
	[ "$over" -gt $((3 << 20)) ]
	# One file beyond, and one that is being sealed.
	[ "$over" -le $((6 << 20)) ]
	[ "$(of_class disk_bytes)" -le $((5 << 20)) ]
	record_stop
	disk_within $((5 << 20))
}

@test "files older than their age go while it records" {
	trace_make 5000 300
	record_start -d "$OUT" -n netns:b --class all:age=2s,filesize=256k
	replay -r 20000
	await 5 holds disk_files -gt 3
	await 10 disk_within $((300 << 10))
	record_stop
}

# The trace, as a clock would have stamped it that is so many seconds ahead.
trace_at() { # SECONDS
	python3 - "$DIR/trace.pcap" "$1" <<-'END'
	import struct, sys
	data, at = bytearray(open(sys.argv[1], "rb").read()), 24
	while at < len(data):
	    struct.pack_into("<I", data, at, int(sys.argv[2]))
	    at += 16 + struct.unpack_from("<I", data, at + 8)[0]
	open(sys.argv[1], "wb").write(data)
	END
}

@test "files of a clock that was a year ahead go with their age, and keep no other from going" {
	trace_make 500 30
	trace_at $(($(date +%s) + 365 * 86400))
	"$TIDEMARK" record -d "$OUT" --state-dir "$STATE" -r "$DIR/trace.pcap"
	trace_at $(($(date +%s) - 86400))
	"$TIDEMARK" record -d "$OUT" --state-dir "$STATE" -r "$DIR/trace.pcap"
	[ "$(query --count)" -eq 1000 ]
	record_start -d "$OUT" -n netns:b --class all:age=20s
	await 5 holds disk_files -eq 1
	[ "$(query --count)" -eq 500 ]
	record_stop
	record_start -d "$OUT" -n netns:b --class all:age=1s
	await 10 holds disk_files -eq 0
	record_stop
}

# On one socket, 20 datagrams asked and answered at once and 20 more when it is told to.
asker_start() {
	start a python3 -u -c '
import os, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(20)
def ask():
    for _ in range(20):
        s.sendto(bytes(100), ("10.9.0.2", 7000))
        s.recv(2000)
    print("asked", flush=True)
ask()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
ask()
' "$DIR/again"
	await_line "$DIR/python3.out" asked
}

asked_twice() {
	[ "$(grep -c asked "$DIR/python3.out")" = 2 ]
}

status_kb() { # FIELD
	awk -v field="$1:" '$1 == field { print $2 }' "/proc/$RECORDER/status"
}

kernel_memory() {
	local map

	for map in flows embryonic; do
		bpftool -j map show pinned "$PIN/$map" | jq .bytes_memlock
	done
}

# FLOOD_FLOWS=4000000 takes a minute.
@test "a flood of flows takes no more memory, and who was there before keeps its state" {
	local memory began cut flows=${FLOOD_FLOWS:-300000}

	ip -n a addr add 10.9.0.1/24 dev wa
	ip -n b addr add 10.9.0.2/24 dev wb
	for end in a b; do ip -n $end link set w$end arp on; done
	udp_echo_start b 10.9.0.2 7000
	mv "$DIR/python3.out" "$DIR/echo.out"
	trace_make "$flows" "$flows" -o
	record_start -d "$OUT" -n netns:b --cutoff 1k --flows 16384
	asker_start
	cut=$(of_class cut_packets)
	[ "$cut" -gt 20 ]
	memory=$(kernel_memory)
	began=$(status_kb VmRSS)
	replay >/dev/null
	[ "$(kernel_memory)" = "$memory" ]
	cut=$(of_class cut_packets)
	touch "$DIR/again"
	await 20 asked_twice
	# Past its cutoff it was, and still is: none of the 40 is kept.
	[ "$(of_class cut_packets)" = $((cut + 40)) ]
	echo "# $flows flows: $began KB before, at most $(status_kb VmHWM) KB; lost $(of_class lost_packets)" >&3
	[ "$(status_kb VmHWM)" -lt $((512 << 10)) ]
	record_stop
	# Both kinds of loss are in one number: of what the ring lost nothing was stored.
	query --count >"$DIR/count"
	[ "$(<"$DIR/count")" -le "$(jq -s 'map(.stored_packets) | add' "$OUT/stats.jsonl")" ]
	[ "$(<"$DIR/count")" -ge "$(jq -s 'map(.stored_packets - .lost_packets) | add' "$OUT/stats.jsonl")" ]
}
