#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Marks on devices of other kinds: without Ethernet, and with VLAN tags beside the packet.
# shellcheck disable=SC2030,SC2031,SC2153

load lab.bash

setup() {
	lab_make
	node a b
	wire a b 1
}

teardown() {
	lab_clean
}

mark() {
	tm mark "$@"
}

# A device without Ethernet in node a, fd00:9::1: each packet to port 9 is a line of hexadecimal digits.
tun_start() {
	cat >"$DIR/tun.py" <<-'EOF'
	import fcntl, struct, sys
	tun = open("/dev/net/tun", "r+b", buffering=0)
	fcntl.ioctl(tun, 0x400454ca, struct.pack("16sH22x", b"t0", 0x1001))  # TUNSETIFF, TUN | NO_PI
	print("made", flush=True)
	while True:
	    packet = tun.read(65536)
	    if packet.endswith(b"to port nine"):
	        print(packet.hex(), flush=True)
	EOF
	in_node a python3 -u "$DIR/tun.py" >"$DIR/tun.out" 2>&1 </dev/null 3>&- &
	PIDS+=("$!")
	await_line "$DIR/tun.out" made
	ip -n a link set t0 up mtu 1500
	ip -n a addr add fd00:9::1/64 dev t0 nodad
}

has_packets() { # COUNT
	[ "$(grep -c '^6' "$DIR/tun.out")" = "$1" ]
}

@test "a device without Ethernet: each way to mark, byte by byte" {
	local n=0

	tun_start
	tm up -n a
	for how in label hop-by-hop destination hop-by-hop+destination; do
		mark add --proto udp --dst :9 --experiment 2 --activity 9 --how $how
		printf 'to port nine' | in_node a socat -u - 'UDP6-SENDTO:[fd00:9::2]:9'
		await 10 has_packets $((++n))
		tail -n 1 "$DIR/tun.out" >"$DIR/$how"
	done
	python3 - "$DIR" <<-'EOF'
	import sys
	option = "001e0300020900"
	chains = {"hop-by-hop": [0], "destination": [60], "hop-by-hop+destination": [0, 60]}
	for how in ("label", *chains):
	    p = bytes.fromhex(open(f"{sys.argv[1]}/{how}").read())
	    label = int.from_bytes(p[1:4], "big") & 0xfffff
	    assert p[0] >> 4 == 6 and len(p) == 40 + int.from_bytes(p[4:6], "big"), (how, p.hex())
	    if how == "label":
	        assert label & ~0xc0103 == 0x10024 and p[6] == 17, p.hex()
	        continue
	    at, kind = 40, p[6]
	    for want in chains[how]:
	        assert kind == want, (how, p.hex())
	        assert p[at + 1:at + 8].hex() == option, (how, p.hex())
	        at, kind = at + 8, p[at]
	    assert kind == 17 and p[at + 2:at + 4] == b"\0\x09" and len(p) == at + 20, (how, p.hex())
	EOF
	[ "$(counter mark_header)" = 3 ]
	[ "$(counter mark_failed)" = 0 ]
}

# What a VLAN device does on egress: the tag is with the packet, not in it. In a program of our
# own in front, for kernels that have no VLAN devices.
tags_push() { # NODE DEVICE
	command -v clang >/dev/null || skip 'no compiler here'
	cat >"$DIR/push.c" <<-'EOF'
	#include <linux/bpf.h>
	#include <bpf/bpf_endian.h>
	#include <bpf/bpf_helpers.h>
	char LICENSE[] SEC("license") = "GPL";
	SEC("tc") int push(struct __sk_buff *skb)
	{
		bpf_skb_vlan_push(skb, bpf_htons(0x8100), 7);
		return -1; /* and on to who comes next */
	}
	EOF
	clang -O2 -g -target bpf -I"/usr/include/$(uname -m)-linux-gnu" -c "$DIR/push.c" -o "$DIR/push.o"
	in_node "$1" tc qdisc add dev "$2" clsact
	in_node "$1" tc filter add dev "$2" egress pref 1 handle 7 bpf da obj "$DIR/push.o" sec tc
}

@test "a tag that is with the packet stays its tag, and each way to mark is on the wire" {
	tags_push a w1
	tm up -n a
	ip -n a neigh replace fd00:1::2 dev w1 \
		lladdr "$(ip -n b -j link show w1 | jq -r '.[0].address')"
	for how in label hop-by-hop destination hop-by-hop+destination; do
		mark add --proto udp --dst :7777 --experiment 2 --activity 9 --how $how
		start b tcpdump -i w1 -U --immediate-mode -s 200 -B 65536 -c 3 -w "$DIR/$how.pcap" \
			'vlan 7 and ip6 and src host fd00:1::1 and not icmp6'
		capture=$PID
		await_line "$DIR/tcpdump.out" 'listening on'
		for _ in 1 2 3; do
			printf 'to port 7777' | in_node a socat -u - 'UDP6-SENDTO:[fd00:1::2]:7777'
		done
		await_end "$capture"
		case $how in
		label) filter='ipv6.nxt == 17' ;;
		hop-by-hop) filter='ipv6.hopopts && !ipv6.dstopts' ;;
		destination) filter='!ipv6.hopopts && ipv6.dstopts' ;;
		*) filter='ipv6.hopopts && ipv6.dstopts' ;;
		esac
		tshark -r "$DIR/$how.pcap" -Y "vlan.id == 7 && udp.dstport == 7777 && $filter" -T fields \
			-e ipv6.flow -e ipv6.opt.experimental 2>/dev/null >"$DIR/seen"
		[ "$(wc -l <"$DIR/seen")" = 3 ]
		if [ $how = label ]; then
			python3 -c '
import sys
assert all(int(line, 0) & ~0xc0103 == 0x10024 for line in open(sys.argv[1]))' "$DIR/seen"
		else
			[ "$(cut -f 2 "$DIR/seen" | tr ',' '\n' | sort -u)" = 000209 ]
		fi
	done
}
