#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Disks that hang, fail and are slow: traffic goes on as if nobody recorded, and what did not fit is told.

# shellcheck disable=SC2030,SC2031,SC2153,SC2154	# PID and hello are lab.bash's; a test is a subshell: what it sets is its own

load lab.bash
load record.bash

setup() {
	lab_make
	TESTS=${BUILD:-.build}/tests
	[ -x "$TESTS/gen_trace" ] || skip 'no gen_trace: make packets'
	[ -e /dev/loop-control ] || skip 'no loop devices'
	grep -qw ext4 /proc/filesystems || skip 'no ext4'
	command -v mkfs.ext4 strace >/dev/null || skip 'no mkfs.ext4, no strace: tools/setup'
	quiet_wire
	DISK=$DIR/disk
	OUT=$DISK/record
	mkdir "$DISK" "$DIR/image"
	# Its own disk in memory: nobody else on this machine waits for it.
	mount -t tmpfs -o size=300m none "$DIR/image"
	truncate -s 280m "$DIR/image/ext4"
	mkfs.ext4 -q -O ^has_journal "$DIR/image/ext4"
	mount -o loop "$DIR/image/ext4" "$DISK"
	THAW=
}

teardown() {
	disk_go_on
	lab_clean
	mountpoint -q "$DISK" && umount "$DISK"
	mountpoint -q "$DIR/image" && umount "$DIR/image"
	return 0
}

# Whoever writes to it waits, in the kernel. What thaws it outlives us: nobody can kill a process
# that waits for a disk that is frozen.
# shellcheck disable=SC2016	# $1 is the inner shell's
disk_hang() {
	mkfifo "$DIR/thaw"
	setsid bash -c 'fsfreeze -f "$1" && echo frozen && read -rt 60 <"$2"; fsfreeze -u "$1"' - \
		"$DISK" "$DIR/thaw" >"$DIR/frozen" 2>&1 3>&- &
	THAW=$!
	await_line "$DIR/frozen" frozen
}

# shellcheck disable=SC2016
disk_go_on() {
	[ -n "$THAW" ] || return 0
	timeout 5 bash -c 'echo >"$1"' - "$DIR/thaw"
	await_end "$THAW" 70
	rm -f "$DIR/thaw"
	THAW=
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

status_kb() { # FIELD
	awk -v field="$1:" '$1 == field { print $2 }' "/proc/$RECORDER/status"
}

# Packets in gaps, of this reason or of any.
in_gaps() { # [REASON]
	query --json | jq -s --arg why "${1:-}" \
		'map(select(.gap and ($why == "" or .reason == $why)) | .gap) | add // 0'
}

# Packets that came, and those of a kind that nobody there wants, which the trace has too.
received() {
	in_node b cat /proc/net/dev | awk '$1 == "wb:" { print $3, $5 }'
}

# Requests on one connection after the other, one line each: how long it took, in us.
asking_start() { # HOST PORT
	start a python3 -u -c '
import http.client, sys, time, os
host, port, stop = sys.argv[1], int(sys.argv[2]), sys.argv[3]
c = http.client.HTTPConnection(host, port, timeout=20)
while not os.path.exists(stop):
    began = time.monotonic()
    c.request("GET", "/")
    r = c.getresponse()
    assert r.status == 200 and r.read() == b"hello\n"
    print(int((time.monotonic() - began) * 1e6))
    time.sleep(0.001)
' "$1" "$2" "$DIR/asked"
	ASKER=$PID
	await 10 test -s "$DIR/python3.out"
}

answers() {
	wc -l <"$DIR/python3.out"
}

answers_are() { # TEST COUNT
	test "$(answers)" "$1" "$2"
}

# Of the lines from one to another: median, 99 of 100, worst.
latencies() { # FROM TO
	sed -n "$1,$2p" "$DIR/python3.out" | sort -n |
		awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)], a[int(NR * 0.99 + 0.5)], a[NR] }'
}

@test "a disk that hangs delays and drops no packet, is told as a gap, and recording resumes" {
	local before frozen thawed lost began came drops first came_now drops_now held

	ip -n a addr add 10.9.0.1/24 dev wa
	ip -n b addr add 10.9.0.2/24 dev wb
	for end in a b; do ip -n $end link set w$end arp on; done
	nginx_start b 80 <<<"$hello"
	trace_make 60000 3000
	record_start -d "$OUT" -n netns:b --class all:mem=8m --ring 16m --stats 500ms
	asking_start 10.9.0.2 80
	await 20 answers_are -ge 500
	read -r came first < <(received)
	replay -r 10000 >/dev/null
	await 10 holds stored_packets -ge 60000
	await 10 holds mem_bytes -lt 262144 # but for the last moments' requests, it has caught up
	[ "$(of_class lost_packets)" = 0 ]
	before=$(answers)
	began=$(status_kb VmHWM)
	disk_hang
	frozen=$(of_class stored_packets)
	read -r came drops < <(received)
	replay -r 20000 >/dev/null
	await 10 holds lost_packets -gt 1000
	# It goes on telling, also that something has waited for so long, and others can ask.
	await 10 holds mem_ns -gt 3000000000
	[ "$(of_class mem_bytes)" -gt $((4 << 20)) ]
	[ "$(of_class mem_bytes)" -le $((8 << 20)) ]
	[ "$(query --count)" -ge 60000 ]
	[ "$(query --count)" -le "$frozen" ]
	thawed=$(answers)
	await 20 answers_are -ge $((thawed + 100))
	thawed=$(answers)
	read -r came_now drops_now < <(received)
	[ $((drops_now - drops)) = $((drops - first)) ]
	[ $((came_now - came)) -ge 60000 ]
	kill -0 "$ASKER"
	held=$(status_kb VmHWM)
	disk_go_on
	await 10 holds mem_bytes -lt 262144
	lost=$(of_class lost_packets)
	frozen=$(of_class stored_packets)
	replay -r 10000 >/dev/null
	await 10 holds stored_packets -ge $((frozen + 60000))
	await 10 holds mem_bytes -lt 262144
	[ "$(of_class lost_packets)" = "$lost" ]
	touch "$DIR/asked"
	await_end "$ASKER"
	wait "$ASKER"
	echo "# asked $((thawed - before)) times while the disk hung: us, median, 99 %, worst:" \
		"$(latencies "$before" "$thawed"), before: $(latencies 1 "$before")" >&3
	echo "# of $((began >> 10)) MB of memory it became $((held >> 10)); lost $lost" >&3
	# What may wait, in batches that are filled to a part.
	[ "$held" -lt $((began + (24 << 10))) ]
	frozen=$(of_class stored_packets)
	record_stop
	frozen=$(jq -s 'map(.stored_packets) | add' "$OUT/stats.jsonl")
	lost=$(jq -s 'map(.lost_packets) | add' "$OUT/stats.jsonl")
	[ "$(query --count 2>/dev/null)" = $((frozen - lost)) ]
	[ "$(in_gaps)" = "$lost" ]
	# Of the memory, not of the rings: who empties those waits for no disk.
	[ "$(in_gaps 'disk too slow')" = "$lost" ]
}

# What the kernel answers to these calls of the recorder, from now on.
disk_fails() { # CALLS
	strace -f -p "$RECORDER" -o /dev/null -e trace="$1" -e inject="$1":error=EIO \
		2>"$DIR/strace.words" </dev/null 3>&- &
	STRACE=$!
	PIDS+=("$STRACE")
	await_line "$DIR/strace.words" 'attached'
}

disk_works() {
	kill -TERM "$STRACE"
	await_end "$STRACE"
}

@test "a disk that fails is said, costs what was written to it, and is written again when it works" {
	local lost stored

	trace_make 20000 1500
	record_start -d "$OUT" -n netns:b --stats 500ms --class all:filesize=4m
	replay -r 20000 >/dev/null
	await 10 holds stored_packets = 20000
	await 10 holds mem_bytes = 0
	disk_fails pwrite64
	replay -r 20000 >/dev/null
	await_line "$DIR/record.words" 'class all: Input/output error: packets are lost and counted'
	await 10 holds lost_packets -gt 1000
	# What had been told before can be asked for all the time.
	[ "$(query --count 2>/dev/null)" -ge 20000 ]
	disk_works
	await_line "$DIR/record.words" 'class all: written again'
	replay -r 20000 >/dev/null
	await 10 holds stored_packets = 60000
	await 10 holds mem_bytes = 0
	record_stop
	# Packets of all kinds came as if nothing had been.
	[ "$(received | cut -d' ' -f1)" = 60000 ]
	stored=$(jq -s 'map(.stored_packets) | add' "$OUT/stats.jsonl")
	lost=$(jq -s 'map(.lost_packets) | add' "$OUT/stats.jsonl")
	[ "$stored" = 60000 ]
	[ "$(query --count 2>/dev/null)" = $((stored - lost)) ]
	[ "$(in_gaps 'disk full or failing')" = "$lost" ]
	echo "# of 60000 packets $lost were lost while the disk failed" >&3
}

@test "a file that could not be sealed answers, and is sealed and counted at the next start" {
	trace_make 20000 1500
	record_start -d "$OUT" -n netns:b --class all:filesize=4m,disk=64m
	disk_fails fdatasync
	replay -r 20000 >/dev/null
	await_line "$DIR/record.words" 'not sealed: Input/output error'
	await 10 holds stored_packets = 20000
	await 10 holds mem_bytes = 0
	[ "$(query --count)" = 20000 ]
	# Of the budget they are, sealed or not.
	await 5 holds disk_bytes -gt $((12 << 20))
	disk_works
	record_stop || :
	record_start -d "$OUT" -n netns:b --class all:filesize=4m,disk=64m
	# No journal is left but that of what is being written, which is nothing.
	[ "$(find "$OUT/all" -name '*.journal' | wc -l)" = 0 ]
	[ "$(query --count)" = 20000 ]
	await 5 holds disk_files -ge 3
	record_stop
}
