#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Coming from Time Machine and stenographer: every line of the tables in docs/ does what it says.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash

setup() {
	lab_make
	TESTS=${BUILD:-.build}/tests
	OUT=$DIR/rec
	"$TESTS/gen_trace" -o -p 4000 -f 300 -s 5 >"$DIR/t.pcap"
	"$TIDEMARK" record --pin-dir "$PIN" --state-dir "$STATE" -d "$OUT" -r "$DIR/t.pcap" 2>/dev/null
	# A connection over TCP and IPv4 that has packets both ways: A, its port, B, its port.
	read -r A P B Q < <(tshark -r "$DIR/t.pcap" -Y 'ip and tcp.flags == 0x12' -T fields \
		-e ip.dst -e tcp.dstport -e ip.src -e tcp.srcport 2>/dev/null | head -1)
	[ -n "$Q" ]
}

teardown() {
	lab_clean
}

# Here as many as tcpdump finds there, and not none.
same() { # EXPRESSION PCAP-FILTER
	local here there

	here=$("$TIDEMARK" query -d "$OUT" --count "$1")
	there=$(tcpdump -r "$DIR/t.pcap" --count "$2" 2>/dev/null | sed 's/ .*//')
	echo "$1: $here, tcpdump $there"
	[ "$here" = "$there" ] && [ "$here" -gt 0 ]
}

@test "what Time Machine's indexes answer, expressions answer" {
	same "host $A" "host $A"
	same "host $A and host $B" "host $A and host $B"
	same "tcp and ((src host $B and src port $Q and dst host $A) or (dst host $B and dst port $Q and src host $A))" \
		"tcp and host $A and host $B and port $Q"
	same "conn $A:$P $B:$Q and tcp" "tcp and host $A and host $B and port $P and port $Q"
	same "conn $B:$Q $A:$P and tcp" "tcp and host $A and host $B and port $P and port $Q"
	# start and end, to_file, class of the answer.
	[ "$("$TIDEMARK" query -d "$OUT" --count --since 1700000000.1 --until 1700000000.2)" = \
		"$(tshark -r "$DIR/t.pcap" -Y 'frame.time_epoch >= 1700000000.1 and
			frame.time_epoch <= 1700000000.2' 2>/dev/null | wc -l)" ]
	"$TIDEMARK" query -d "$OUT" -w "$DIR/x.pcapng" "host $A"
	[ "$(tcpdump -r "$DIR/x.pcapng" --count 2>/dev/null | sed 's/ .*//')" = \
		"$("$TIDEMARK" query -d "$OUT" --count "host $A")" ]
	same 'class all and udp' udp
	# subscribe
	[ "$(timeout 10 "$TIDEMARK" query -d "$OUT" --follow --limit 3 --json "host $A" | wc -l)" = 3 ]
}

@test "what stenographer is asked, may be asked here in the same words" {
	local net=${A%.*}

	same "net $net.0/24" "net $net.0/24"
	same "net $net.0 mask 255.255.255.0" "net $net.0/24"
	# Later fragments of UDP have ports here, which they have not there.
	same "port $Q and tcp" "tcp port $Q"
	same 'ip proto 6' 'ip proto 6'
	same 'tcp || udp && ip' '(tcp or udp) and ip'
	same "(tcp or icmp) and host $B" "(tcp or icmp) and host $B"
	same 'before 2024-01-01T00:00:00Z and tcp' tcp
	same 'before 3h ago and tcp' tcp
	same 'after 2023-01-01T00:00:00Z and not tcp' 'not tcp'
	[ "$("$TIDEMARK" query -d "$OUT" --count 'after 3h ago or vlan 5 or mpls 7')" = 0 ]
	[ "$("$TIDEMARK" query -d "$OUT" --limit 7 --json tcp | wc -l)" = 7 ]
}

@test "every keyword of Time Machine that is read is in the table of the documentation" {
	local words

	words=$(sed -n '/keyword.*\[\] = {/,/^};/p' user/timemachine.c |
		grep -oE '\{ "[a-z_]+"' | tr -d '{ "')
	[ "$(wc -w <<<"$words")" -ge 30 ]
	for word in $words; do
		grep -qE "^\|.*[\`\" ]${word}[\`\" ]" docs/recording.md || { echo "$word"; false; }
	done
}
