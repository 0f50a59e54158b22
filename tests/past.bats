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
	run -2 query --count "past of $stamp@c and not past of $stamp@c"
	[[ $output == *'in an expression'* ]]
}

@test "a stamp that nobody has, or no stamp, is refused and nothing is answered" {
	run -2 query 'past of 0000000000000001'
	run -2 query 'past of 12'
	[[ $output == *'16 hexadecimal digits'* ]]
	run -2 query --flows 'future of 18f3a2b4c5d60007'
}
