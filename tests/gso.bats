#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Marks in what the kernel is still to cut (segmentation offload), at the MTU, in fragments.
# a sends through the router b to c. What leaves b has been cut and summed by the kernel.

load lab.bash
load marks.bash

setup() {
	lab_make
	node a b c
	wire a b 1
	wire b c 2
	in_node b sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
	ip -n a -6 route add fd00:2::/64 via fd00:1::2
	ip -n c -6 route add fd00:1::/64 via fd00:2::1
	# Where the neighbour is unknown, of many packets the first are lost.
	neighbours a b 1
	neighbours b c 2
	in_node b ethtool -K w2 tx off sg off tso off gso off >/dev/null
	in_node c ethtool -K w2 gro off >/dev/null
}

neighbours() { # A B WIRE
	neighbour "$1" "$2" "$3" 2
	neighbour "$2" "$1" "$3" 1
}

neighbour() { # OF WHOM WIRE END
	ip -n "$1" neigh replace "fd00:$3::$4" dev "w$3" \
		lladdr "$(ip -n "$2" -j link show "w$3" | jq -r '.[0].address')"
}

mark() {
	tm mark add --experiment 2 --activity 9 "$@"
}

teardown() {
	lab_clean
}

strategies=(hop-by-hop destination hop-by-hop+destination)

gso() {
	python3 tests/gso.py "$@"
}

capture_start() {
	PCAP=$DIR/wire.pcap
	rm -f "$DIR/tcpdump.out"
	start c tcpdump -i w2 -U --immediate-mode -s 2000 -B 65536 -w "$PCAP" ip6
	CAPTURE=$PID
	await_line "$DIR/tcpdump.out" 'listening on'
}

# A last packet, from c itself: what came before it has been written when it has.
capture_stop() {
	echo the-last-one | in_node c socat -u - 'UDP6-SENDTO:[fd00:2::1]:65000'
	await 10 grep -qa the-last-one "$PCAP" && kill -INT "$CAPTURE" && await_end "$CAPTURE"
}

receive_start() { # SIZE COUNT BUFFERS [gro]
	start c python3 tests/gso.py receive 7777 "$@"
	RECEIVER=$PID
	await 10 listens_udp c 7777
}

# Everything came, and came right.
receive_stop() {
	wait "$RECEIVER" || {
		cat "$DIR/python3.out" >&2
		return 1
	}
}

# So many buffers of datagrams to c; they are on b's wire with this mark.
datagrams() { # SIZE COUNT BUFFERS MARK
	capture_start
	receive_start "${@:1:3}"
	in_node a python3 tests/gso.py send fd00:2::2 7777 "${@:1:3}"
	receive_stop
	capture_stop
	gso udp "$PCAP" "$@" >&2
}

@test "datagrams in one buffer: each of them has the mark, its bytes and its checksum" {
	local how before

	tm up -n a
	for how in label "${strategies[@]}"; do
		mark --proto udp --dst :7777 --how "$how"
		before=$(counter mark_header)
		datagrams 1200 40 20 "$how"
		# It was buffers that were marked, not what was cut from them.
		[ "$how" = label ] || [ $(($(counter mark_header) - before)) = 20 ]
	done
	[ "$(counter mark_failed)" = 0 ]
	[ "$(counter mark_no_room)" = 0 ]
}

@test "the longest datagrams that have room are marked, and one byte more goes as it is" {
	local how most

	tm up -n a
	for how in "${strategies[@]}"; do
		mark --proto udp --dst :7777 --how "$how"
		case $how in *+*) most=1436 ;; *) most=1444 ;; esac
		datagrams $most 20 5 "$how"
		datagrams $((most + 1)) 20 5 none
		datagrams 1452 20 5 none
	done
	[ "$(counter mark_no_room)" = 30 ]
	[ "$(counter mark_failed)" = 0 ]
}

@test "a device that cuts datagrams itself hands them over whole, apart and together" {
	local how gro

	tm up -n a
	for how in "${strategies[@]}"; do
		mark --proto udp --dst :7777 --how "$how"
		for gro in '' gro; do
			start b python3 tests/gso.py receive 7777 1200 40 20 $gro
			RECEIVER=$PID
			await 10 listens_udp b 7777
			in_node a python3 tests/gso.py send fd00:1::2 7777 1200 40 20
			receive_stop
		done
	done
	[ "$(counter mark_header)" = 120 ]
}

@test "a machine's device (virtio) is told where each segment begins" {
	local how features

	for features in 1 97; do
		start a python3 -u tests/gso.py tun 1200 40 5 $features label "${strategies[@]}"
		await_line "$DIR/python3.out" 'made|refused'
		# Linux 6.2 has it first.
		grep -q refused "$DIR/python3.out" && skip 'no device takes datagrams to be cut'
		ip -n a link set t0 up mtu 1500
		ip -n a addr add fd00:9::1/64 dev t0 nodad
		tm up -n a
		for how in label "${strategies[@]}"; do
			mark --proto udp --dst :7777 --how "$how"
			in_node a python3 tests/gso.py send fd00:9::2 7777 1200 40 5
			await 10 grep -qF "in order, $how," "$DIR/python3.out"
		done
		await_end "$PID"
		tm down
		cat "$DIR/python3.out" >&2
		rm "$DIR/python3.out"
	done
}

@test "a stream cut by the kernel: every segment has the option, its bytes and its checksum" {
	local how before longest

	tm up -n a
	head -c 8000000 /dev/urandom >"$DIR/sent"
	for how in "${strategies[@]}"; do
		mark --proto tcp --dst :5201 --how "$how"
		before=$(counter mark_header)
		capture_start
		start c socat -u TCP6-LISTEN:5201,reuseaddr "CREATE:$DIR/received"
		await 10 listens c 5201
		in_node a socat -u "OPEN:$DIR/sent" 'TCP6:[fd00:2::2]:5201'
		await_end "$PID"
		capture_stop
		cmp "$DIR/sent" "$DIR/received"
		case $how in hop-by-hop) longest=1500 ;; *) longest=1468 ;; esac
		gso tcp "$PCAP" "$DIR/sent" 1000 $longest "$how" >&2
		# Many segments in one buffer, or this has shown nothing.
		[ $(($(counter mark_header) - before)) -lt 3000 ]
	done
	[ "$(counter mark_failed)" = 0 ]
}

# Whether a Linux router takes a buffer with a destination header for too long hangs on the sequence
# numbers, which is luck: with so many connections there is next to none.
@test "a router forwards buffers of segments that are still to be cut, whatever is in front" {
	local how

	tm up -n a
	server c 5201
	for how in "${strategies[@]}"; do
		mark --proto tcp --dst :5201 --how "$how"
		connect a fd00:2::2 5201 24 200000
	done
	[ "$(in_node b nstat -az Ip6InTooBigErrors | awk '/TooBig/ { print $2 }')" = 0 ]
	[ "$(counter mark_failed)" = 0 ]
	[ "$(counter mark_mss)" = 72 ]
}

@test "a stream older than its mark: cut anew or left as it is, and nothing too long or lost" {
	local how least

	tm up -n a
	head -c 8000000 /dev/urandom >"$DIR/sent"
	for how in "${strategies[@]}"; do
		rm -f "$DIR/received" "$DIR/more"
		tm mark del --all
		capture_start
		start c socat -u TCP6-LISTEN:5201,reuseaddr "CREATE:$DIR/received"
		await 10 listens c 5201
		mkfifo "$DIR/more"
		exec 8<>"$DIR/more"
		start a socat -u "OPEN:$DIR/more" 'TCP6:[fd00:2::2]:5201'
		head -c 1000000 "$DIR/sent" >&8
		await 10 received 1000000
		mark --proto tcp --dst :5201 --how "$how"
		tail -c +1000001 "$DIR/sent" >&8
		await 20 received 8000000
		exec 8>&-
		kill -KILL "$PID"
		capture_stop
		cmp "$DIR/sent" "$DIR/received"
		case $how in hop-by-hop) least=500 ;; *) least=0 ;; esac
		gso tcp "$PCAP" "$DIR/sent" $least 1500 "$how" >&2
	done
	[ "$(in_node b nstat -az Ip6InTooBigErrors | awk '/TooBig/ { print $2 }')" = 0 ]
}

received() { # BYTES
	[ "$(stat -c %s "$DIR/received")" -ge "$1" ]
}

@test "fragments of a long datagram have no option, and it arrives" {
	local how

	tm up -n a
	for how in "${strategies[@]}"; do
		mark --proto udp --dst :7777 --how "$how"
		receive_start 15000 0 3
		in_node a python3 tests/gso.py send fd00:2::2 7777 15000 0 3
		receive_stop
	done
	# 5000 bytes are four fragments.
	[ "$(counter mark_fragment)" = 36 ]
	[ "$(counter mark_header)" = 0 ]
}
