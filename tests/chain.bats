#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# From programs to one order: hosts that share nothing, their logs merged, checked and drawn.

# Variables of bats, of lab.bash and of inband.bash:
# shellcheck disable=SC2030,SC2031,SC2034,SC2153,SC2154

load lab.bash
load inband.bash

setup() {
	lab_make
	HOST_PINS=()
	node a b
}

teardown() {
	hosts_clean
	lab_clean
}

raw_inversions() {
	"$TIDEMARK" check "$@" 2>/dev/null | jq .inversions
}

# One haproxy in front of a server: it takes one connection, and opens or keeps another.
haproxy_start() { # NODE PORT SERVER
	cat >"$DIR/haproxy.cfg" <<-EOF2
	global
		nbthread 1
	defaults
		mode http
		timeout connect 5s
		timeout client 20s
		timeout server 20s
	frontend f
		bind :::$2 v4v6
		default_backend b
	backend b
		http-reuse always
		server s $3
	EOF2
	start "$1" haproxy -db -f "$DIR/haproxy.cfg"
	await 10 listens "$1" "$2"
}

# Every receipt of the last node stands above one sending more of the first than the one before.
# Requests go one at a time, so the n-th the server got is the n-th the client sent.
in_turn() { # FROM TO COUNT [LOG]
	jq -rn --arg from "$1" --arg to "$2" --argjson count "$3" '
		[inputs] as $all
		| [$all[] | select(.type == "send" and .node == $from) | .hlc] as $sent
		| [$all[] | select(.type == "recv" and .node == $to) | .hlc] as $got
		| ($sent | length) >= $count and ($got | length) >= $count and
			all(range($count); $sent[.] < $got[.])' "${4:-$LOG}" | grep -qx true
}

@test "a traced proxy keeps the client's sending before the server's receipt, each on its own host" {
	node c
	wire a b 1
	wire b c 2
	host_start a --skew a=+2h "${PEERS[@]}"
	host_start b "${PEERS[@]}"
	host_start c --skew c=-2h "${PEERS[@]}"
	nginx_start c 80 <<<"$hello"
	haproxy_start b 80 10.2.0.2:80
	requests a 100 10.1.0.2 80
	requests a 100 fd00:1::2 80
	hosts_stop
	# Nobody looked into a request: the stamps alone, of a and c who never met.
	ordered 800
	expect 0 '.type == "recv" and .via != "in-band"'
	jq -c 'select(.node == "a" and .type == "send" or .node == "c" and .type == "recv")' "$LOG" \
		>"$DIR/ends.jsonl"
	in_turn a c 200 "$DIR/ends.jsonl"
	# By their wall clocks every one would be the other way round.
	run ! in_turn a c 200 <(jq -c '.hlc = .wall' "$DIR/ends.jsonl")
	# The first request's past has what the server did with it, and none of what came later.
	answer=$(jq -rn '[inputs | select(.node == "c" and .type == "send")][0].hlc' "$LOG")
	"$TIDEMARK" past --json "$answer@c" "$DIR"/[abc].jsonl >"$DIR/past.jsonl"
	[ "$(jq -n '[inputs | select(.node == "a" and .type == "send")] | length' "$DIR/past.jsonl")" = 1 ]
}

@test "a wire that strips every option: no order before merge, every message in order after it (T36)" {
	faulty strip
	nginx_start b 80 <<<"$hello"
	udp_echo_start b 10.1.0.2 7
	hosts
	requests a 200 10.1.0.2 80
	requests a 100 fd00:1::2 80
	udp_sizes a 10.1.0.2 7 1000 10
	[ "$(host_counter a stamp_silent)" -ge 2 ]
	[ "$(host_counter b stamp)" = 0 ] || [ "$(jq -s 'map(select(.via == "in-band")) | length' "$DIR/b.jsonl")" = 0 ]
	hosts_stop
	[ "$(raw_inversions "$DIR/a.jsonl" "$DIR/b.jsonl")" -ge 300 ]
	"$TIDEMARK" merge -o "$DIR/all.jsonl" "$DIR/a.jsonl" "$DIR/b.jsonl"
	LOG=$DIR/all.jsonl
	ordered 800
	wall_wrong 30
	jq -e '.in_band == 0 and .unknown == 0 and .unmatched_recv == 0' "$DIR/check.json"
	expect 0 '.type == "recv" and .edge != "matched"'
}

@test "stripped, and through DNAT: ends that know a connection by other addresses are paired" {
	node gw
	wire a gw 1
	node mid
	ip link add wa netns mid type veth peer name w2 netns gw
	ip link add wb netns mid type veth peer name w2 netns b
	wire_end gw 2 1
	wire_end b 2 2
	for end in gw:w2 b:w2 a:w1 gw:w1; do
		offload_off "${end%:*}" "${end#*:}"
	done
	for dev in wa wb; do
		in_node mid sysctl -qw "net.ipv6.conf.$dev.disable_ipv6=1"
		ip -n mid link set "$dev" up
		offload_off mid "$dev"
	done
	in_node gw sysctl -qw net.ipv4.ip_forward=1
	ip -n a route add default via 10.1.0.2
	in_node gw nft -f - <<-'EOF2'
	table ip t {
		chain p {
			type nat hook prerouting priority -100;
			ip daddr 10.77.0.1 dnat to 10.2.0.2
		}
		chain s {
			type nat hook postrouting priority 100;
			oifname "w2" masquerade random
		}
	}
	EOF2
	faulty_start mid wa wb strip
	nginx_start b 80 <<<"$hello"
	udp_echo_start b 10.2.0.2 7
	hosts
	requests a 100 10.77.0.1 80
	udp_sizes a 10.77.0.1 7 1000 10
	hosts_stop
	expect 0 '.cause'
	expect 0 '.node == "b" and (.src == "10.77.0.1:80" or .dst == "10.77.0.1:80")'
	"$TIDEMARK" merge -o "$DIR/all.jsonl" "$DIR/a.jsonl" "$DIR/b.jsonl"
	LOG=$DIR/all.jsonl
	ordered 400
	expect 0 '.type == "recv" and .edge != "matched"'
}

@test "graphs of what really happened have its messages, and the colours of its marks" {
	wire a b 1
	nginx_start b 80 <<<"$hello"
	udp_echo_start b 10.1.0.2 7
	hosts
	"$TIDEMARK" mark add --pin-dir /sys/fs/bpf/a --proto tcp --dst :80 --experiment 2 --activity 3
	requests a 5 10.1.0.2 80
	requests a 5 fd00:1::2 80
	udp_ask a 3 10.1.0.2 7
	hosts_stop
	expect 0 '.type == "send" and .node == "a" and (.experiment == null) != (.proto == "udp")'
	"$TIDEMARK" merge -o "$DIR/all.jsonl" "$DIR/a.jsonl" "$DIR/b.jsonl"
	for format in dot svg html shiviz; do
		"$TIDEMARK" graph --$format --colour mark --whole "$DIR/all.jsonl" >"$DIR/g.$format"
		[ -s "$DIR/g.$format" ]
	done
	dot -Tplain "$DIR/g.dot" >"$DIR/plain"
	# An arrow for each message; one colour by edge, another for what is marked by mark.
	messages=$(jq -n '[inputs | select(.edge == "in-band")] | length' "$DIR/all.jsonl")
	"$TIDEMARK" graph --dot --colour edge --whole "$DIR/all.jsonl" >"$DIR/edge.dot"
	for graph in g:2 edge:1; do
		arrows=$(grep -o -- '-> e[0-9]* \[color="#[0-9a-f]*"' "$DIR/${graph%:*}.dot" | sed 's/.*color=//')
		[ "$(wc -l <<<"$arrows")" = "$messages" ]
		[ "$(sort -u <<<"$arrows" | wc -l)" = "${graph#*:}" ]
	done
}
