#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `tidemark query 'past of STAMP'`: of real requests, what led to one and what came of it.

# shellcheck disable=SC2030,SC2031,SC2153	# a test is a subshell: what it sets is its own

load lab

setup() {
	lab_make
	REC=$DIR/rec
}

teardown() {
	lab_clean
}

query() {
	"$TIDEMARK" query -d "$REC" "$@"
}

# Every packet by itself: at the other end it is no retransmission.
dissected() { # FILTER [ARGS...]
	tshark -r "$DIR/o.pcapng" -o tcp.analyze_sequence_numbers:FALSE \
		-o tcp.desegment_tcp_streams:FALSE -Y "$@" 2>/dev/null
}

# Who sent or received which HTTP request, `node/device out|in uri`, of what a query finds.
requests() { # EXPRESSION
	query --by time -w "$DIR/o.pcapng" "$1"
	dissected http.request -T fields -e frame.interface_name -e frame.packet_flags \
		-e http.request.uri |
		sed 's/0x0*2/out/; s/0x0*1/in/; s,/w[0-9],,' | tr '\t' ' '
}

responses() { # EXPRESSION
	query --by time -w "$DIR/o.pcapng" "$1"
	dissected http.response -T fields -e frame.interface_name |
		sed 's,/w[0-9],,'
}

ask() { # NODE URI
	in_node "$1" curl -sf -o "$DIR/answer" "http://10.${3:-1}.0.2$2"
}

# A client a, a proxy b, a server c behind it, and d, who asks b too.
@test "the past of a request at the third node is what led to it, and its future what it led to" {
	local stamp before after

	node a b c d
	wire a b 1
	wire b c 2
	wire d b 3
	nginx_start b 80 <<-'EOF'
		location / { return 200 here; }
		location /far { proxy_pass http://10.2.0.2:80; }
	EOF
	nginx_start c 80 <<<'location / { return 200 there; }'
	"$TIDEMARK" record --pin-dir "$PIN" --state-dir "$STATE" -d "$REC" -n netns:a -n netns:b \
		-n netns:c -n netns:d 2>"$DIR/words" </dev/null 3>&- &
	PIDS+=($!)
	await_line "$DIR/words" 'recording [0-9]+ nodes'
	ask a /early
	ask d /other 3
	ask a /far
	ask a /late
	kill -TERM "${PIDS[-1]}"
	wait "${PIDS[-1]}"

	stamp=$(query --json 'node c and tcp dst port 80 and greater 100' |
		jq -r 'select(.dir == "in" and (.flags // "" | contains("P"))) | .hlc' | head -1)
	[ ${#stamp} -eq 16 ]
	before=$(requests "past of $stamp@c" | sort | tr '\n' ,)
	echo "$before"
	[ "$before" = 'a out /early,a out /far,b in /early,b in /far,b in /other,b out /far,'$(
	)'c in /far,d out /other,' ]
	# The answers before too: that they came is told by the end of their connections.
	[ "$(responses "past of $stamp@c" | sort | tr '\n' ,)" = 'a,b,b,d,' ]
	after=$(requests "future of $stamp@c" | sort | tr '\n' ,)
	echo "$after"
	[ "$after" = 'a out /late,b in /late,c in /far,' ]
	responses "future of $stamp@c" | sort | tr '\n' ,
	[ "$(responses "future of $stamp@c" | sort | tr '\n' ,)" = 'a,a,b,b,b,c,' ]
	# All other words go with it, and none of it is in both.
	[ "$(query --count "past of $stamp@c and node a and tcp")" -gt 4 ]
	[ "$(query --count "past of $stamp@c and not past of $stamp@c")" -eq 0 ]
	# Of an incident between two events, what is causally between them: both, and the proxy's.
	first=$(query --json 'node a and tcp dst port 80 and greater 100' |
		jq -r 'select(.dir == "out" and (.flags // "" | contains("P"))) | .hlc' | sed -n 2p)
	between=$(requests "past of $stamp@c and future of $first@a" | sort | tr '\n' ,)
	echo "$between"
	[ "$between" = 'a out /far,b in /far,b out /far,c in /far,' ]
	run -2 query --count "past of $stamp@c and future of 0000000000000001"
	[[ $output == *'column 32: 0000000000000001: no packet here'* ]]
}

# The same, with two clocks far off, requests at once, and a server that speaks first.
@test "pasts, futures and what is between them are those that the event log has, by brute force" {
	local words=$DIR/trace.words urls=(http://10.1.0.2/{1..6})

	node a b c
	wire a b 1
	wire b c 2
	nginx_start b 80 <<<'location / { proxy_pass http://10.2.0.2:80; }'
	nginx_start c 80 <<<'location / { return 200 there; }'
	udp_echo_start c 10.2.0.2 7
	start c socat TCP-LISTEN:2525,fork,reuseaddr 'SYSTEM:echo 220 ready; read bye'
	await 10 listens c 2525
	tm up --state-dir "$STATE" -n netns:a -n netns:b -n netns:c --skew b=-2h --skew c=+30m
	"$TIDEMARK" record --pin-dir "$PIN" --state-dir "$STATE" -d "$REC" \
		2>"$DIR/words" </dev/null 3>&- &
	PIDS+=($!)
	local recorder=$!
	"$TIDEMARK" trace --json --pin-dir "$PIN" --state-dir "$STATE" \
		>"$DIR/log" 2>"$words" </dev/null 3>&- &
	PIDS+=($!)
	local tracer=$!
	await_line "$DIR/words" 'recording 3 nodes'
	await_line "$words" 'watching 3 nodes'
	for _ in 1 2 3; do
		in_node a curl -sf --parallel --parallel-immediate --output-dir "$DIR" \
			--remote-name-all "${urls[@]}" 2>/dev/null
		udp_ask b 2 10.2.0.2 7
		for _ in 1 2; do
			in_node b bash -c 'grep -qx "220 ready" </dev/tcp/10.2.0.2/2525'
		done
	done
	kill -INT "$tracer"
	wait "$tracer"
	kill -TERM "$recorder"
	wait "$recorder"
	run -0 python3 tests/past_oracle.py "$TIDEMARK" "$DIR/log" "$REC" 15 4
	echo "$output"
	[[ $output =~ [1-9][0-9]{2}\ events,\ [1-9][0-9]{2,}\ packets,\ 90\ queries,\ 0\ wrong ]]
}

# A client a, who asks an address that a router gw, which nobody records, gives to b; and b sees
# gw's address instead of a's.
@test "addresses that are changed between two nodes do not end the past where clocks are exchanged" {
	local stamp past

	node a gw b
	wire a gw 1
	wire gw b 2
	in_node gw sysctl -qw net.ipv4.ip_forward=1
	ip -n a route add default via 10.1.0.2
	in_node gw nft -f - <<-'EOF'
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
	EOF
	nginx_start b 80 <<<'location / { return 200 here; }'
	udp_echo_start b 10.2.0.2 7
	"$TIDEMARK" record --pin-dir "$PIN" --state-dir "$STATE" -d "$REC" -n netns:a -n netns:b \
		--peer 10.0.0.0/8 2>"$DIR/words" </dev/null 3>&- &
	PIDS+=($!)
	await_line "$DIR/words" 'recording [0-9]+ nodes'
	in_node a curl -sf -o "$DIR/answer" http://10.77.0.1/one
	udp_ask a 1 10.77.0.1 7
	in_node a curl -sf -o "$DIR/answer" http://10.77.0.1/two
	kill -TERM "${PIDS[-1]}"
	wait "${PIDS[-1]}"

	[ "$(query --count 'node b and host 10.77.0.1')" -eq 0 ]
	[ "$(query --count 'node b and host 10.1.0.1')" -eq 0 ]
	stamp=$(query --json 'node b and tcp dst port 80 and greater 100' |
		jq -r 'select(.dir == "in" and (.flags // "" | contains("P"))) | .hlc' | head -1)
	past=$(requests "past of $stamp@b" | sort | tr '\n' ,)
	echo "$past"
	[ "$past" = 'a out /one,b in /one,' ]
	# The datagram has its stamp behind it.
	stamp=$(query --json 'node b and udp dst port 7' | jq -r 'select(.dir == "in") | .hlc')
	[ "$(query --count "past of $stamp@b and node a and udp")" -eq 1 ]
	past=$(requests "past of $stamp@b" | sort | tr '\n' ,)
	[ "$past" = 'a out /one,b in /one,' ]
}

@test "a stamp that nobody has, or no stamp, is refused and nothing is answered" {
	mkdir "$REC"
	: >"$REC/stats.jsonl"
	run -2 query 'past of 0000000000000001'
	run -2 query 'past of 12'
	[[ $output == *'16 hexadecimal digits'* ]]
	run -2 query --flows 'future of 18f3a2b4c5d60007'
}
