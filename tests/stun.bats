#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The address that others see, asked of servers of other people's, from behind a real NAT.

load lab.bash
load marks.bash

setup() {
	lab_make
	node left right nat outside
	wire left right 1
	wire nat outside 9
	# The world, where the daemon is, behind nat; and nat has one address for all of it.
	ip link add inner type veth peer name inner netns nat
	ip addr add 192.168.7.2/24 dev inner
	ip link set inner up
	ip -n nat addr add 192.168.7.1/24 dev inner
	ip -n nat link set inner up
	ip -n nat addr add 203.0.113.77/24 dev w9
	ip -n outside addr add 203.0.113.2/24 dev w9
	ip -n outside addr add 203.0.113.3/24 dev w9
	ip route add 203.0.113.0/24 via 192.168.7.1
	in_node nat sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
	in_node nat nft -f - <<-'NFT'
	table ip behind {
		chain out {
			type nat hook postrouting priority 100
			oifname "w9" masquerade
		}
	}
	NFT
}

teardown() {
	lab_clean
	ip link del inner 2>/dev/null || :
}

# A flow's firefly has the address that the server on outside says.
told() {
	server right 1094
	collector_start "$DIR/collected" 127.0.0.1 10600
	run_start <<-EOF
	fireflies:
	  destination: false
	  collectors: ["127.0.0.1:10600"]
	  address: {stun: ["203.0.113.2:3478"]}
	EOF
	await_line "$DIR/run.words" 'public address 203.0.113.77, says STUN'
	mark add --proto tcp --dst :1094 --experiment 2 --activity 9
	connect left 10.1.0.2 1094 1 10
	await 10 has_lines "$DIR/collected" '"src-ip":"203.0.113.77"' 2
	judge "$DIR/collected"
	run_stop
}

@test "coturn says the address of a masquerading router, and fireflies have it" {
	command -v turnserver >/dev/null || skip 'coturn is not installed'
	start outside turnserver -n --stun-only --no-cli --no-tls --no-dtls --log-file stdout \
		--listening-ip 203.0.113.2 --listening-port 3478 --userdb "$DIR/users" \
		--pidfile "$DIR/pid"
	await 10 listens_udp outside 3478
	told
}

@test "stund of RFC 3489, which knows no XOR, is understood too" {
	command -v stund >/dev/null || skip 'stun-server is not installed'
	start outside stund -h 203.0.113.2 -a 203.0.113.3
	await 10 listens_udp outside 3478
	told
}
