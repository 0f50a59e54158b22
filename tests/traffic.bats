#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `tidemark trace` where traffic is large, lossy, cut up or more than a reader can read.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash

setup() {
	lab_make
	node client server
}

teardown() {
	lab_clean
}

# All the payload of the sends, or recvs, of a node to the port.
bytes_of() { # NODE TYPE PORT
	jq -n "[inputs | select(.node == \"$1\" and .type == \"$2\" and (.dst | endswith(\":$3\")))
		| .bytes] | add // 0" "$LOG"
}

packets_of() {
	jq -n "[inputs | select(.node == \"$1\" and .type == \"$2\" and (.dst | endswith(\":$3\")))
		| .packets] | add // 0" "$LOG"
}

bursts_of() {
	events ".node == \"$1\" and .type == \"$2\" and (.dst | endswith(\":$3\"))"
}

# Between client and server a router, which can be told to lose what goes to the server.
routed() {
	node router
	wire client router 1
	wire router server 2
	in_node router sysctl -qw net.ipv4.ip_forward=1
	ip -n client route add 10.2.0.0/24 via 10.1.0.2
	ip -n server route add 10.1.0.0/24 via 10.2.0.1
}

# Receives everything on the port, and ends with the connection.
sink_start() { # NODE PORT
	start "$1" python3 -c '
import socket, sys
s = socket.create_server(("", int(sys.argv[1])))
c, _ = s.accept()
n = 0
while True:
    data = c.recv(1 << 16)
    if not data:
        break
    n += len(data)
    print("so far", n, flush=True)
print("received", n, flush=True)
' "$2"
	SINK=$DIR/python3.out
	await 10 listens "$1" "$2"
}

# 30000 bytes to port 9000, of which 20000 get lost on their way and are sent again.
send_twice() {
	local hole=10.2.0.2/32

	mkfifo "$DIR/data"
	setsid nsenter --net=/run/netns/client nc -N 10.2.0.2 9000 <"$DIR/data" 3>&- &
	PIDS+=($!)
	exec 4>"$DIR/data"
	head -c 5000 /dev/zero >&4
	await_line "$SINK" '^so far 5000$'
	ip -n router route add blackhole "$hole"
	head -c 20000 /dev/zero >&4
	# The kernel's own word that it has sent something again.
	await 10 sent_again
	ip -n router route del blackhole "$hole"
	await_line "$SINK" '^so far 25000$'
	head -c 5000 /dev/zero >&4
	exec 4>&-
	await_line "$SINK" '^received 30000$'
}

sent_again() {
	in_node client ss -Htin dport = :9000 | grep -E 'retrans:[0-9]+/[1-9]'
}

@test "what is sent again under real loss is a retransmit, and no new send" {
	routed
	sink_start server 9000
	trace_start -n netns:client -n netns:server --skew server=-2h
	send_twice
	trace_stop
	[ "$(events '.type == "retransmit" and .node == "client"')" -gt 0 ]
	expect 0 '.type == "retransmit" and .node == "server"'
	[ "$(bytes_of client send 9000)" = 30000 ]
	[ "$(bytes_of server recv 9000)" = 30000 ]
	[ "$(pairs)" -ge 2 ]
	check_ok
	valid
}

@test "without loss nothing is a retransmit" {
	wire client server 1
	sink_start server 9000
	trace_start -n netns:client -n netns:server
	head -c 300000 /dev/zero | in_node client nc -N 10.1.0.2 9000
	await_line "$SINK" '^received 300000$'
	trace_stop
	for node in client server; do
		[ "$(in_node $node nstat -asz TcpRetransSegs | awk '/Retrans/ { print $2 }')" = 0 ] ||
			skip 'the machine was so slow that TCP did send something again'
	done
	expect 0 '.type == "retransmit"'
	[ "$(bytes_of client send 9000)" = 300000 ]
	[ "$(bytes_of server recv 9000)" = 300000 ]
}

@test "retransmits are counted in flows" {
	local told

	routed
	sink_start server 9000
	tm up -n netns:client -n netns:server
	send_twice
	told=$(tm flows --json -n client | jq 'select(.proto == "tcp") | .retransmits')
	[ "$told" -gt 0 ]
	[ "$(counter retransmit)" = "$told" ]
	[ "$(tm flows --json -n server | jq 'select(.proto == "tcp") | .retransmits')" = 0 ]
}

# An iperf3 run; prints the payload it sent, data and its cookie.
iperf() { # ARGS...
	start server iperf3 -s -1
	await 10 listens server 5201
	in_node client iperf3 -c 10.1.0.2 -J "$@" >"$DIR/iperf.json"
	await_end "$PID"
}

# The flow that carried the data; the other one is iperf3's own talk.
data_port() {
	jq -rn '[inputs | select(.type == "send" and .node == "client")] | group_by(.src)
		| max_by(map(.bytes) | add) | .[0].src' "$LOG"
}

flow_bytes() { # NODE TYPE SRC
	jq -n "[inputs | select(.node == \"$1\" and .type == \"$2\" and .src == \"$3\") | .bytes]
		| add // 0" "$LOG"
}

@test "a bulk transfer is a handful of bursts, whose bytes add up exactly on both sides" {
	local src sent got seen bursts

	wire client server 1
	trace_start -n netns:client -n netns:server
	iperf -n 200M
	trace_stop
	src=$(data_port)
	sent=$(jq .end.sum_sent.bytes "$DIR/iperf.json")
	got=$(jq .end.sum_received.bytes "$DIR/iperf.json")
	[ "$sent" -ge 209715200 ]
	seen=$(flow_bytes client send "$src")
	echo "iperf3 $got to $sent, sent $seen, received $(flow_bytes server recv "$src")"
	[ "$(flow_bytes server recv "$src")" = "$seen" ]
	# iperf3 begins each stream with a cookie of 37 bytes, which it does not count, and its
	# server hangs up when told of the end: what the client still had never left it.
	[ "$seen" -le $((sent + 37)) ]
	[ "$seen" -ge $((got + 37)) ]
	bursts=$(events ".node == \"client\" and .type == \"send\" and .src == \"$src\"")
	echo "# 200 MB in $bursts bursts at the sender" >&3
	[ "$bursts" -lt 100 ]
	expect 0 '.type == "gap"'
	check_ok
}

@test "100 MB to one who reads them all are 100 MB, to the byte" {
	wire client server 1
	sink_start server 9000
	trace_start -n netns:client -n netns:server
	head -c 104857600 /dev/zero | in_node client nc -N 10.1.0.2 9000
	await_line "$SINK" '^received 104857600$'
	trace_stop
	[ "$(bytes_of client send 9000)" = 104857600 ]
	[ "$(bytes_of server recv 9000)" = 104857600 ]
	[ "$(bursts_of client send 9000)" -lt 100 ]
	expect 0 '.type == "gap"' # sent again now and then, but counted once
}

@test "packets in a bulk burst are those on the wire, not the large ones of the kernel" {
	local sent received

	wire client server 1
	sink_start server 9000
	trace_start -n netns:client -n netns:server
	head -c 20971520 /dev/zero | in_node client nc -N 10.1.0.2 9000
	await_line "$SINK" '^received 20971520$'
	trace_stop
	sent=$(packets_of client send 9000)
	received=$(packets_of server recv 9000)
	echo "$sent packets sent, $received received"
	# 1448 bytes at most in each, and few are less.
	[ "$sent" -ge $((20971520 / 1448)) ]
	[ "$sent" -le $((20971520 * 12 / 1448 / 10)) ]
	[ "$received" = "$sent" ]
}

@test "a burst that goes on and on is told every 100 ms or so" {
	local src bursts

	wire client server 1
	trace_start -n netns:client -n netns:server
	iperf -b 40M -t 2
	trace_stop
	src=$(data_port)
	bursts=$(events ".node == \"client\" and .type == \"send\" and .src == \"$src\"")
	echo "# 2 s of one stream in $bursts bursts" >&3
	[ "$bursts" -ge 14 ]
	[ "$bursts" -le 60 ]
}

@test "a datagram in fragments is one message" {
	wire client server 1
	udp_echo_start server 10.1.0.2 7
	udp_echo_start server fd00:1::2 9
	trace_start -n netns:client -n netns:server
	udp_ask client 10 10.1.0.2 7 5000
	udp_ask client 10 fd00:1::2 9 5000
	trace_stop
	for node in client server; do
		expect 20 ".node == \"$node\" and .type == \"send\""
		expect 20 ".node == \"$node\" and .type == \"recv\""
		expect 0 ".node == \"$node\" and .proto == \"udp\" and .bytes != 5000"
	done
	[ "$(pairs)" = 40 ]
	check_ok
}

@test "a reader that is too slow gets gaps, which say exactly how much is missing" {
	local lost told messages

	wire client server 1
	udp_echo_start server 10.1.0.2 7
	tm up -n netns:client -n netns:server --ring 4k
	trace_start
	kill -STOP "$TRACE"
	udp_ask client 1000 10.1.0.2 7
	kill -CONT "$TRACE"
	trace_stop
	lost=$(counter event_lost)
	told=$(jq -n '[inputs | select(.type == "gap") | .count] | add // 0' "$LOG")
	messages=$(jq -n '[inputs | select(.type == "send" or .type == "recv") | .packets] | add' "$LOG")
	echo "# $messages messages told of, $told in gaps, $lost counted" >&3
	[ "$lost" -gt 100 ]
	[ "$told" = "$lost" ]
	[ $((messages + told)) = 4000 ]
	jq -n "[inputs | select(.type == \"gap\") | .node] | unique" "$LOG" | grep client
	check_ok
	valid
}
