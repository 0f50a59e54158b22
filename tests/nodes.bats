#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Nodes and devices that come and go while a trace runs, and devices chosen with -i.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash

setup() {
	lab_make
}

teardown() {
	lab_clean
}

# Without -n every namespace that /proc shows becomes a node, and this machine's own must not:
# so such a trace runs, and everything it is to see, below a first process of its own.
alone() { # FUNCTION
	local code

	code="$(declare -p TIDEMARK DIR STATE PIN PIDS NODES HANDLE hello speak); $(declare -f)"
	unshare --mount --pid --fork --kill-child --mount-proc bash -euo pipefail -c "$code; $1"
}

# Milliseconds from a moment (us since 1970) to an event's wall clock.
after() { # MOMENT CONDITION
	jq -n "[inputs | select($2)][0].wall
		| ((.[0:19] + \"Z\" | fromdateiso8601) * 1000000 + (.[20:26] | tonumber) - $1) / 1000" \
		"$LOG"
}

# So many datagrams from the namespace to itself, numbered, as fast as python can.
speak='
import ctypes, fcntl, os, socket, struct, sys
def up():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 1 | 8))  # SIOCSIFFLAGS: up
    return s
def speak(n):
    s = up()
    r = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    r.bind(("127.0.0.1", 7))
    r.settimeout(0.5)
    for i in range(n):
        s.sendto(b"%08d" % i, ("127.0.0.1", 7))
        try:
            r.recv(100)
        except TimeoutError:
            # The kernel loses what is sent while a clsact is put on a device that is up.
            print("# datagram %d got lost on lo" % i, flush=True)
'

seen_of() { # CONDITION: how many datagrams of 8 bytes were sent
	jq -n "[inputs | select(.type == \"send\" and .proto == \"udp\" and ($1)) | .bytes]
		| add // 0 | . / 8" "$LOG"
}

first_packets() {
	local began missed

	trace_start
	began=${EPOCHREALTIME/./}
	ip netns add late
	await_line "$LOG" '"node":"late"'
	echo "# ip netns add: a node after $(after "$began" '.node == "late"') ms"
	nsenter --net=/run/netns/late python3 -c "$speak"$'\n'"speak(200)"
	began=${EPOCHREALTIME/./}
	ip netns add later
	nsenter --net=/run/netns/later python3 -c "$speak"$'\n'"speak(200)"
	began2=${EPOCHREALTIME/./}
	unshare -n python3 -c "$speak"$'\n'"speak(200)"
	began3=${EPOCHREALTIME/./}
	python3 -c "$speak"$'\n'"ctypes.CDLL(None).unshare(0x40000000); speak(200)"
	# The last burst of each.
	trace_stop
	echo "# ip netns add, then a program at once: a node after" \
		"$(after "$began" '.node == "later"') ms, $((200 - $(seen_of '.node == "later"')))" \
		"of its first 200 packets missed"
	missed=$((200 - $(seen_of ".wall > \"$(at "$began2")\" and .wall < \"$(at "$began3")\"")))
	echo "# unshare -n, a program that speaks at once: $missed of its first 200 packets missed"
	missed=$((200 - $(seen_of ".wall > \"$(at "$began3")\"")))
	echo "# a process that unshares itself and speaks at once: $missed of 200 missed"
	[ "$(seen_of '.node == "late"')" = 200 ]
	[ "$(jq -n "$(after "$began" '.node == "later"') < 100")" = true ]
	# Some of it is seen in every case.
	[ "$(seen_of '.node == "later"')" -gt 0 ]
	[ "$(events '.type == "node-up"')" -ge 5 ]
	check_ok
}

at() { # a moment as an event's wall clock has it
	date -u -d "@${1:0:10}.${1:10}" +%Y-%m-%dT%H:%M:%S.%NZ
}

@test "namespaces that appear while trace runs are nodes within 100 ms" {
	alone first_packets >"$DIR/said" || { cat "$DIR/said"; return 1; }
	grep '^# ' "$DIR/said" >&3
}

devices_follow() {
	node a b
	trace_start -n netns:a -n netns:b
	devices_are a lo
	wire a b 5
	await 5 devices_are a lo,w5
	await 5 devices_are b lo,w5
	udp_echo_start b 10.5.0.2 7
	udp_ask a 10 10.5.0.2 7
	# Renamed: the same device, and still seen, once.
	ip -n a link set w5 down
	ip -n a link set w5 name other
	ip -n a link set other up
	udp_ask a 10 10.5.0.2 7
	# Given to a bridge: now the bridge speaks for the node, and its port does not.
	ip -n a link add br0 type bridge
	ip -n a addr flush dev other
	ip -n a link set other master br0
	ip -n a addr add 10.5.0.1/24 dev br0
	ip -n a link set br0 up
	await 5 attached_only br0
	udp_ask a 10 10.5.0.2 7
	# Gone, and another in its place.
	ip -n a link del other
	ip -n a link del br0
	await 5 devices_are a lo
	wire a b 6
	await 5 devices_are a lo,w6
	udp_ask_b6
	trace_stop
	for name in a b; do
		expect 40 ".node == \"$name\" and .type == \"send\""
		expect 40 ".node == \"$name\" and .type == \"recv\""
	done
	[ "$(pairs)" = 80 ]
	check_ok
}

udp_ask_b6() {
	udp_echo_start b 10.6.0.2 9
	udp_ask a 10 10.6.0.2 9
}

devices_are() { # NODE LIST
	[ "$(tm show nodes --json | jq -r "select(.node == \"$1\") | .devices" | tr , '\n' |
		sort | paste -sd ,)" = "$2" ]
}

attached_only() {
	tm show nodes --json | jq -r 'select(.node == "a") | .devices' | grep -w "$1" &&
		! tm show nodes --json | jq -r 'select(.node == "a") | .devices' |
			grep -wE 'other|w5'
}

@test "devices that come later, get another name or a bridge, or go, are followed" {
	devices_follow
}

@test "a namespace that is deleted is a node-down, and is forgotten" {
	node a b
	tm up -n netns:a -n netns:b
	id=$(tm show nodes --json | jq 'select(.node == "b") | .id')
	trace_start
	ip netns del b
	await_line "$LOG" '"type":"node-down"'
	[ "$(tm show nodes --json | jq -r .node)" = a ]
	[ "$(tm show attachments --json | jq -r .node | sort -u)" = a ]
	trace_stop
	expect 1 ".type == \"node-down\" and .node == \"b\" and .id == $id"
	valid
}

@test "a namespace that was deleted before anybody traced has its name in its node-down" {
	node a b
	tm up -n netns:a -n netns:b
	id=$(tm show nodes --json | jq 'select(.node == "b") | .id')
	ip netns del b
	trace_start
	await_line "$LOG" '"type":"node-down"'
	trace_stop
	expect 1 ".type == \"node-down\" and .node == \"b\" and .id == $id"
	valid
}

# A thousand, a hundred at a time: each is a process that waits until all of them are nodes,
# says something to itself, and goes.
thousand() {
	local began nodes fds ups

	trace_start
	nodes=$(bpftool -j map dump pinned "$PIN/nodes" | jq length)
	fds=$(find "/proc/$TRACE/fd" | wc -l)
	program=$(bpftool -j prog show pinned "$PIN/pipeline" | jq .id)
	began=$SECONDS
	python3 -c "$speak"'
import json, subprocess, time
def nodes():
    show = [sys.argv[1], "show", "nodes", "--json", "--pin-dir", sys.argv[2]]
    return subprocess.check_output(show).count(b"\n")
def until(holds):
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, nodes()
before = nodes()
for batch in range(10):
    go, gone = os.pipe()
    pids = []
    for i in range(100):
        pid = os.fork()
        if not pid:
            os.close(gone)
            ctypes.CDLL(None).unshare(0x40000000)
            up()
            os.read(go, 1)
            speak(1)
            os._exit(0)
        pids.append(pid)
    until(lambda: nodes() >= before + 100)
    os.close(go)
    os.close(gone)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    until(lambda: nodes() == before)
' "$TIDEMARK" "$PIN"
	echo "# 1000 namespaces in $((SECONDS - began)) s"
	[ $((SECONDS - began)) -lt 60 ]
	await 60 nodes_back "$nodes"
	await 10 fds_back "$fds"
	[ "$(bpftool -j prog show pinned "$PIN/pipeline" | jq .id)" = "$program" ]
	[ "$(bpftool -j map dump pinned "$PIN/attachments" | jq length)" -le 2 ]
	trace_stop
	ups=$(events '.type == "node-up"')
	echo "# $((ups - nodes)) became nodes, $(events '.type == "send"') of 1000 datagrams were seen"
	echo "# $(jq -r 'select(.type == "node-up") | .netns' "$LOG" | sort | uniq -d |
		wc -l) inode numbers came more than once"
	[ $((ups - nodes)) = 1000 ]
	[ "$(events '.type == "send"')" = 1000 ]
	[ "$(events '.type == "recv" and .cause')" = 1000 ]
	# An id is never given twice, whatever the kernel does with its inodes (T39).
	[ "$(jq -r 'select(.type == "node-up") | .id' "$LOG" | sort -u | wc -l)" = "$ups" ]
	[ "$(events '.type == "node-down"')" = $((ups - nodes)) ]
	check_ok
}

nodes_back() {
	[ "$(bpftool -j map dump pinned "$PIN/nodes" | jq length)" = "$1" ]
}

fds_back() {
	[ "$(find "/proc/$TRACE/fd" | wc -l)" -le "$1" ]
}

@test "1000 namespaces within a minute leave nothing behind, and are not mixed up" {
	alone thousand >"$DIR/said" || { cat "$DIR/said"; return 1; }
	grep '^# ' "$DIR/said" >&3
}

# Client and server behind a bridge in this world.
bridged() {
	local i=1 name

	node client server
	ip link add br0 type bridge
	ip link set br0 up
	for name in client server; do
		ip link add "p$i" type veth peer name eth0 netns "$name"
		ip link set "p$i" master br0 up
		ip -n "$name" addr add "10.7.0.$i/24" dev eth0
		ip -n "$name" link set eth0 up
		i=$((i + 1))
	done
	udp_echo_start server 10.7.0.2 7
}

bridge_remove() {
	ip link del p1
	ip link del p2
	ip link del br0
}

@test "-i on a bridge watches its ports, each for who is behind it" {
	bridged
	trace_start -i br0
	udp_ask client 10 10.7.0.2 7
	trace_stop
	bridge_remove
	expect 10 '.node == "p1" and .type == "send" and .dst == "10.7.0.2:7"'
	expect 10 '.node == "p2" and .type == "recv" and .dst == "10.7.0.2:7"'
	expect 10 '.node == "p2" and .type == "send" and .src == "10.7.0.2:7"'
	expect 10 '.node == "p1" and .type == "recv" and .src == "10.7.0.2:7"'
	[ "$(pairs)" = 20 ]
	check_ok
	valid
}

@test "-i on one end of a wire watches what passes there, in both directions" {
	node client
	ip link add w9 type veth peer name eth0 netns client
	ip addr add 10.9.0.2/24 dev w9
	ip link set w9 up
	ip -n client addr add 10.9.0.1/24 dev eth0
	ip -n client link set eth0 up
	trace_start -i w9
	python3 -u -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("10.9.0.2", 7)); print("bound")
while True:
    d, a = s.recvfrom(100); s.sendto(d, a)' >"$DIR/echo" 3>&- &
	PIDS+=($!)
	await_line "$DIR/echo" bound
	udp_ask client 10 10.9.0.2 7
	trace_stop
	ip link del w9
	expect 10 '.node == "w9" and .type == "recv"'
	expect 10 '.node == "w9" and .type == "send"'
	expect 0 '.node != "w9"'
}

@test "-i on a tun, whose packets have no Ethernet header" {
	ip tuntap add dev tun9 mode tun
	ip addr add 10.8.0.1/24 dev tun9
	ip link set tun9 up
	trace_start -i tun9
	[ "$(tm show attachments --json | jq .layer)" = 3 ]
	python3 -c '
import fcntl, os, select, socket, struct
t = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(t, 0x400454ca, struct.pack("16sH14x", b"tun9", 1 | 0x1000))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10)
# Until the kernel has noticed that somebody holds the other end.
while not select.select([t], [], [], 0.05)[0]:
    s.sendto(b"there?", ("10.8.0.2", 9))
while select.select([t], [], [], 0.05)[0]:
    os.read(t, 2000)
for i in range(10):
    s.sendto(b"hello", ("10.8.0.2", 7))
    while True:
        p = os.read(t, 2000)
        if p[0] >> 4 == 4 and p[9] == 17:
            break
    # Back to where it came from: swapping ends changes no checksum.
    os.write(t, p[:12] + p[16:20] + p[12:16] + p[22:24] + p[20:22] + p[24:])
    assert s.recv(100) == b"hello"
'
	trace_stop
	ip link del tun9
	expect 10 '.type == "send" and .dst == "10.8.0.2:7" and .bytes == 5'
	expect 10 '.type == "recv" and .src == "10.8.0.2:7" and .bytes == 5'
}

@test "-i on a mirror port sees what is copied there" {
	node client server
	wire client server 1
	ip link add mirror type veth peer name copies netns server
	ip link set mirror up
	ip -n server link set copies up
	tc -n server qdisc add dev w1 clsact
	for side in ingress egress; do
		tc -n server filter add dev w1 "$side" protocol ip u32 match u32 0 0 \
			action mirred egress mirror dev copies continue ||
			skip 'no act_mirred on this kernel'
	done
	udp_echo_start server 10.1.0.2 7
	trace_start -i mirror
	udp_ask client 10 10.1.0.2 7
	trace_stop
	ip link del mirror
	[ "$(events '.proto == "udp" and .dst == "10.1.0.2:7"')" = 10 ]
	[ "$(events '.proto == "udp" and .src == "10.1.0.2:7"')" = 10 ]
	valid
}

came_meanwhile() {
	local before run

	tm up 2>"$DIR/up.words"
	ip netns add meanwhile
	ip -n meanwhile link set lo up
	# Nobody is there to be told.
	before=$(tm show nodes --json | jq -r .node)
	! grep -qx meanwhile <<<"$before" || return
	printf 'trace: {write: {dir: %s}}\n' "$DIR/log" >"$DIR/run.yaml"
	"$TIDEMARK" run -c "$DIR/run.yaml" --pin-dir "$PIN" --state-dir "$STATE" \
		2>"$DIR/run.words" </dev/null 3>&- &
	run=$!
	await_line "$DIR/run.words" 'watching [0-9]+ nodes'
	tm show nodes --json | jq -r .node | grep -qx meanwhile
	nsenter --net=/run/netns/meanwhile python3 -c "$speak"$'\n'"speak(10)"
	ip netns add afterwards
	nsenter --net=/run/netns/afterwards python3 -c "$speak"$'\n'"up()"
	await 10 node_shown afterwards
	kill -TERM "$run"
	wait "$run"
	LOG=$DIR/all.jsonl
	cat "$DIR"/log/*.jsonl >"$LOG" 2>/dev/null || zstdcat "$DIR"/log/*.zst >"$LOG"
	[ "$(seen_of '.node == "meanwhile"')" = 10 ]
}

node_shown() {
	tm show nodes --json | jq -r .node | grep -qx "$1"
}

@test "a namespace that appeared while there was only what up had made is followed by run" {
	alone came_meanwhile
}

# A device of ours, chosen with -i, whose other end speaks.
interface_make() {
	node a
	ip link add px type veth peer name w0 netns a
	ip addr add 10.9.0.1/24 dev px
	ip link set px up
	ip -n a addr add 10.9.0.2/24 dev w0
	ip -n a link set w0 up
}

@test "a device chosen with -i that goes is a node that goes, and others stay" {
	interface_make
	ip link add py type veth peer name w1 netns a
	trace_start -i px -i py
	ip link del px
	await_line "$LOG" '"node-down".*"px"|"px".*"node-down"'
	[ "$(tm show nodes --json | jq -r .node)" = py ]
	trace_stop
	ip link del py
	expect 1 '.type == "node-down" and .node == "px"'
	expect 0 '.type == "node-down" and .node == "py"'
	valid
}

@test "a device that went while nobody looked, and one beside the host's own node, go too" {
	interface_make
	tm up -i px -n netns:a
	ip link del px
	trace_start
	await_line "$LOG" '"px".*"node-down"|"node-down".*"px"'
	trace_stop
	tm down
	ip link add px type veth peer name w0 netns a
	trace_start -i px -n host
	ip link del px
	await_line "$LOG" '"px".*"node-down"|"node-down".*"px"'
	[ "$(tm show nodes --json | jq -r .node)" = host ]
	trace_stop
}
