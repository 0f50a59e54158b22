#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# A flood of connections that never come to be: who has one is not disturbed.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash

setup() {
	lab_make
	node client server attacker
	wire client server 1
	wire attacker server 2
	nginx_start server 80 <<<"$hello"
	# What the server answers leaves it, and the attacker's end drops it.
	ip -n server route add default via 10.2.0.1
	ip -n server neigh replace 10.2.0.1 dev w2 \
		lladdr "$(ip -n attacker -j link show w2 | jq -r '.[0].address')"
	in_node server sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.w2.rp_filter=0
}

teardown() {
	lab_clean
}

address_of_server() {
	ip -n server -j link show w2 | jq -r '.[0].address'
}

# So many SYNs to 10.2.0.2:80, each from another address and port. Raw frames, one system call
# for each: some 100 thousand a second.
flood() { # COUNT
	in_node attacker python3 - "$1" "$(address_of_server)" <<-'EOF'
	import random, socket, struct, sys
	count, mac = int(sys.argv[1]), bytes.fromhex(sys.argv[2].replace(":", ""))
	s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
	s.bind(("w2", 0))
	destination = socket.inet_aton("10.2.0.2")
	eth = mac + b"\2\0\0\0\0\1\x08\0"
	def add(*words):
	    n = sum(words)
	    n = (n & 0xffff) + (n >> 16)
	    return ~((n & 0xffff) + (n >> 16)) & 0xffff
	random.seed(1)
	ip0 = 0x4500 + 40 + 0x4000 + 0x4006 + 0x0a02 + 0x0002
	tcp0 = 6 + 20 + 0x0a02 + 0x0002 + 80 + 0x5002 + 0xffff
	for i in range(count):
	    # 11.0.0.0 to 11.255.255.255, each once, in no order.
	    n = (i * 2654435761) & 0xffffff
	    source, port = 0x0b000000 | n, 1024 + (i & 0x7fff)
	    high, low = source >> 16, source & 0xffff
	    s.send(eth + struct.pack("!HHHHHHI4sHHIIHHHH", 0x4500, 40, 0, 0x4000, 0x4006,
	        add(ip0, high, low), source, destination, port, 80, i, 0, 0x5002, 0xffff,
	        add(tcp0, high, low, port, i >> 16, i & 0xffff), 0))
	EOF
}

kernel_memory() {
	local map

	for map in flows embryonic sends clocks nodes attachments; do
		bpftool -j map show pinned "$PIN/$map" | jq -r '"\(.name) \(.bytes_memlock)"'
	done
}

entries() { # MAP FIELD
	tm show maps --json | jq "select(.map == \"$1\") | .$2"
}

sent_by_server() {
	ip -n server -s -j link show w2 | jq '.[0].stats64.tx.packets'
}

established() {
	tm flows --json -n server | jq -r 'select(.remote | startswith("10.1.0.1:")) | .state' |
		grep -qx established
}

# A connection that asks once, and then goes on asking until it is told to stop.
asker_start() {
	start client python3 -u -c '
import http.client, os, sys
c = http.client.HTTPConnection("10.1.0.2", 80, timeout=20)
n = 0
while not os.path.exists(sys.argv[1]):
    c.request("GET", "/")
    assert c.getresponse().read() == b"hello\n"
    n += 1
    if n == 1:
        print("asked", flush=True)
print("did", n, flush=True)
' "$DIR/stop"
	await_line "$DIR/python3.out" asked
}

@test "200 thousand SYNs from as many sources disturb neither the table nor a connection in it" {
	local memory did evicted

	tm up -n netns:client -n netns:server --flows 16384
	trace_start
	asker_start
	memory=$(kernel_memory)
	flood 200000
	established
	[ "$(kernel_memory)" = "$memory" ]
	[ "$(entries embryonic entries)" -le "$(entries embryonic max_entries)" ]
	[ "$(entries flows entries)" -lt 20 ]
	# It was answered: what keeps it out is that nobody went on from there.
	[ "$(sent_by_server)" -gt 100000 ]
	evicted=$(entries embryonic evicted)
	echo "# $evicted embryonic flows evicted of $(counter flow_new) new ones" >&3
	[ "$(counter flow_new)" -ge 200000 ]
	[ "$evicted" -ge 190000 ]
	touch "$DIR/stop"
	await_line "$DIR/python3.out" '^did'
	did=$(sed -n 's/^did //p' "$DIR/python3.out")
	trace_stop
	echo "# $did requests went on meanwhile" >&3
	[ "$did" -gt 100 ]
	expect "$did" '.node == "client" and .type == "send"'
	expect "$did" '.node == "server" and .type == "recv"'
	expect "$did" '.node == "server" and .type == "send"'
	# Nobody accepted anything, so nothing of the flood is an event.
	expect 1 '.type == "accept"'
	expect 0 '.src | (. // "" | startswith("11."))'
	check_ok
}

@test "datagrams from 50 thousand invented sources evict nothing but themselves" {
	tm up -n netns:client -n netns:server --flows 8192
	asker_start
	in_node attacker python3 -c '
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("w2", 0))
mac = bytes.fromhex(sys.argv[1].replace(":", ""))
for i in range(50000):
    s.send(mac + b"\2\0\0\0\0\1\x08\0" + struct.pack("!HHHHHHI4sHHHH5s", 0x4500, 33, 0, 0, 0x4011,
        0, 0x0c000000 + i, socket.inet_aton("10.2.0.2"), 5000, 9999, 13, 0, b"hello"))
' "$(address_of_server)"
	established
	[ "$(entries flows entries)" -lt 20 ]
	[ "$(entries embryonic evicted)" -ge 40000 ]
	touch "$DIR/stop"
	await_line "$DIR/python3.out" '^did'
}
