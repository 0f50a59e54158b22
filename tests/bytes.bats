#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# What the application gets is what was sent, however much, whatever the wire does to it.

# Variables of bats, of lab.bash and of inband.bash:
# shellcheck disable=SC2030,SC2031,SC2034,SC2153,SC2154

load lab.bash
load inband.bash

GIGABYTE=1073741824

setup() {
	lab_make
	HOST_PINS=()
	node a b
}

teardown() {
	hosts_clean
	lab_clean
}

# Bytes that both ends can make: a block that is turned by one more at each repetition, so that
# none that is missing, twice, or at another place, goes unseen.
many='
import random, socket, sys
SIZE = 1000003
block = random.Random(1).randbytes(SIZE) * 2
def blocks(total):
    turn = 0
    while total > 0:
        n = min(SIZE, total)
        yield memoryview(block)[turn : turn + n]
        total -= n
        turn = (turn + 1) % SIZE
def hear(c, total):
    got, buffer = 0, bytearray(SIZE)
    for want in blocks(total):
        have = 0
        while have < len(want):
            n = c.recv_into(memoryview(buffer)[have : len(want)])
            assert n, ("closed at", got + have)
            have += n
        assert buffer[:have] == want, ("differs after", got)
        got += have
    assert not c.recv(1), "more than was sent"
    return got
'

# Judges what it gets, and says so: as many lines in $DIR/python3.out as connections were right.
bulk_start() { # NODE PORT BYTES
	start "$1" python3 -c "$many"'
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
while True:
    c = s.accept()[0]
    print("same", hear(c, int(sys.argv[2])), flush=True)
    c.close()
' "$2" "$3"
	await_line "$DIR/python3.out" listening
	mv "$DIR/python3.out" "$DIR/bulk.out"
}

bulk() { # NODE ADDRESS PORT BYTES
	local before

	before=$(grep -c '^same' "$DIR/bulk.out") || :
	in_node "$1" python3 -c "$many"'
c = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
for part in blocks(int(sys.argv[3])):
    c.sendall(part)
c.shutdown(socket.SHUT_WR)
c.recv(1)
' "$2" "$3" "$4"
	await 5 same_more_than "$before"
}

same_more_than() { # COUNT
	[ "$(grep -c '^same' "$DIR/bulk.out")" -gt "$1" ]
}

# Both ends drop what their connection tracking finds invalid, a wrong checksum among it.
drop_invalid() {
	local node

	for node in a b; do
		in_node "$node" nft -f - <<-'EOF2'
		table inet t {
			counter invalid { }
			chain i {
				type filter hook input priority 0;
				ct state invalid counter name invalid drop
			}
		}
		EOF2
	done
}

none_invalid() {
	local node

	for node in a b; do
		in_node "$node" nft -j list counter inet t invalid |
			jq -e '.nftables[1].counter.packets == 0'
	done
}

# What went into the log is what was sent: nothing of it twice, nothing missing.
bytes_told() { # BYTES
	expect_bytes a send "$1"
	expect_bytes b recv "$1"
}

expect_bytes() { # NODE TYPE BYTES
	[ "$(jq -n "[inputs | select(.node == \"$1\" and .type == \"$2\" and (.dst | endswith(\":9000\")))
		| .bytes] | add" "$LOG")" = "$3" ]
}

@test "1 GB of TCP arrives byte for byte, and is in the log to the byte" {
	wire a b 1
	bulk_start b 9000 "$GIGABYTE"
	hosts
	bulk a 10.1.0.2 9000 "$GIGABYTE"
	[ "$(host_counter a stamp)" -gt 2 ]
	hosts_stop
	ordered 3
	bytes_told "$GIGABYTE"
}

@test "1 GB of TCP through a rule that drops what is invalid: byte for byte, and nothing is dropped" {
	wire a b 1
	drop_invalid
	bulk_start b 9000 "$GIGABYTE"
	hosts
	bulk a fd00:1::2 9000 "$GIGABYTE"
	none_invalid
	hosts_stop
	ordered 3
	bytes_told "$GIGABYTE"
}

@test "every size of datagram through that rule, each end summing up in software: none is dropped" {
	wire a b 1
	offload_off a w1
	offload_off b w1
	drop_invalid
	udp_echo_start b 10.1.0.2 7
	udp_echo_start b fd00:1::2 9
	bulk_start b 9000 50000000
	hosts
	udp_sizes a 10.1.0.2 7 8000 1
	udp_sizes a fd00:1::2 9 8000 1
	bulk a 10.1.0.2 9000 50000000
	none_invalid
	[ "$(host_counter a stamp)" -gt 2900 ]
	hosts_stop
	merged_ordered 32000
}

@test "a rule that drops what is invalid drops a datagram whose checksum is wrong: the tests above can fail" {
	wire a b 1
	offload_off a w1
	offload_off b w1
	drop_invalid
	in_node a python3 - <<-'EOF2'
	import socket, struct
	s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
	s.sendto(struct.pack("!4H", 1000, 7, 9, 0x1234) + b"x", ("10.1.0.2", 0))
	EOF2
	run ! none_invalid
}

# Datagrams may be lost here, so they are asked for again; what is answered has to be the same.
udp_sizes_lossy() { # NODE ADDRESS PORT MOST
	in_node "$1" python3 - "${@:2}" <<-'EOF2'
	import random, socket, sys
	host, port, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
	s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
	s.setsockopt(socket.SOL_SOCKET, 33, 1 << 23)  # SO_RCVBUFFORCE
	s.settimeout(0.05)
	s.connect((host, port))
	again = 0
	for first in range(0, most + 1, 20):
	    left = {n: random.Random(n).randbytes(n) for n in range(first, min(first + 20, most + 1))}
	    for turn in range(100):
	        for data in left.values():
	            s.send(data)
	        again += len(left) if turn else 0
	        try:
	            while left:
	                got = s.recv(65535)
	                want = left.pop(len(got), None)
	                # None: a second copy, perhaps of an earlier batch
	                assert got == (want or random.Random(len(got)).randbytes(len(got))), len(got)
	        except TimeoutError:
	            continue
	        break
	    assert not left, sorted(left)
	print("again", again)
	assert again, "nothing was lost: not the wire this is for"
	EOF2
}

@test "3 % lost, reordered, doubled: 20 MB of TCP and every size of datagram, byte for byte" {
	faulty loss
	bulk_start b 9000 20000000
	# Datagrams of which a fragment is lost would fill what there is for them.
	for node in a b; do
		in_node $node sysctl -qw net.ipv4.ipfrag_time=1
	done
	udp_echo_start b 10.1.0.2 7
	hosts
	bulk a 10.1.0.2 9000 20000000
	[ "$(host_counter a retransmit)" -gt 0 ]
	[ "$(host_counter b ahead)" -gt 0 ]
	udp_sizes_lossy a 10.1.0.2 7 8000
	hosts_stop
	merged_ordered 3000
	bytes_told 20000000
}
