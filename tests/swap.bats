#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The pipeline begins small, and a larger one takes its place while packets run.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash

setup() {
	lab_make
	node client server
	wire client server 1
}

teardown() {
	lab_clean
}

program() {
	bpftool -j prog show pinned "$PIN/pipeline" | jq .id
}

# Translated size, which says how much of it the verifier has left in.
size() {
	bpftool -j prog show pinned "$PIN/pipeline" | jq .bytes_xlated
}

udp_count() { # NODE DIRECTION
	tm flows --json -n "$1" | jq -s "[.[] | select(.proto == \"udp\") | .$2_packets] | add"
}

# Datagrams without a pause until a file is there; how many goes to $DIR/sent.
flood_start() {
	start server python3 -u -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE: nothing is lost for want of room
s.bind(("10.1.0.2", 99))
print("bound")
n = 0
while s.recv(64) != b"end":
    n += 1
    if n == 1000:
        print("running")
print("got", n)'
	await_line "$DIR/python3.out" bound
	in_node client python3 -c '
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("10.1.0.2", 99))
n = 0
while not os.path.exists("'"$DIR"'/enough") or n < 20000:
    s.send(b"x")
    n += 1
s.send(b"end")
print(n)' >"$DIR/sent" &
	FLOOD=$!
	await_line "$DIR/python3.out" running
}

@test "a first mark, a first record and a swap between lose no packet and count each once" {
	local before sent

	tm up -n netns:client -n netns:server
	before=$(program)
	flood_start
	tm mark add --dst 2001:db8::/32 --experiment 1 --activity 1
	[ "$(program)" != "$before" ]
	"$TIDEMARK" record --pin-dir "$PIN" --state-dir "$STATE" -d "$DIR/rec" \
		--duration 1s -n netns:client 2>"$DIR/record.words"
	touch "$DIR/enough"
	wait "$FLOOD"
	await_line "$DIR/python3.out" got
	sent=$(cat "$DIR/sent")
	[ "$(sed -n 's/got //p' "$DIR/python3.out")" = "$sent" ]
	# And the last one, which says that it is over.
	[ "$(udp_count client out)" = $((sent + 1)) ]
	[ "$(udp_count server in)" = $((sent + 1)) ]
	[ "$("$TIDEMARK" query -d "$DIR/rec" 'udp and port 99' --count)" -gt 100 ]
	tm down
	nothing_attached
}

@test "what has been swapped in stays over a restart, and is not loaded twice" {
	local small large

	tm up -n netns:client
	small=$(size)
	tm mark add --dst 2001:db8::/32 --experiment 1 --activity 1
	large=$(program)
	[ "$(size)" -gt "$small" ]
	tm mark add --dst 2001:db9::/32 --experiment 1 --activity 1
	[ "$(program)" = "$large" ]
	trace_start
	kill -KILL "$TRACE"
	wait "$TRACE" || :
	trace_start
	trace_stop
	[ "$(program)" = "$large" ]
	# Refused marks load nothing.
	tm down
	tm up -n netns:client
	small=$(program)
	run tm mark add --dst nonsense --experiment 1 --activity 1
	[ "$status" = 2 ]
	[ "$(program)" = "$small" ]
	tm down
	nothing_attached
}

@test "killed inside any of its calls into the kernel, a first mark breaks nothing" {
	local i calls

	udp_echo_start server 10.1.0.2 7
	tm up -n netns:client
	strace -f -c -e trace=bpf -o "$DIR/calls" "$TIDEMARK" mark add --pin-dir "$PIN" \
		--dst 2001:db8::/32 --experiment 1 --activity 1
	calls=$(awk '$NF == "bpf" { print $4 }' "$DIR/calls")
	[ "$calls" -gt 20 ]
	tm down
	for ((i = calls - 12; i <= calls; i++)); do
		tm up -n netns:client
		run strace -f -o /dev/null -e trace=bpf -e "inject=bpf:signal=KILL:when=$i" \
			"$TIDEMARK" mark add --pin-dir "$PIN" --dst 2001:db8::/32 \
			--experiment 1 --activity 1
		udp_ask client 2 10.1.0.2 7
		[ "$(udp_count client out)" = 2 ]
		tm mark add --dst 2001:db9::/32 --experiment 1 --activity 1
		tm mark list --json | jq -se 'any(.[]; .dst == "2001:db9::/32")'
		tm down
		nothing_attached
	done
}
