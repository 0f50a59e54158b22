#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `tidemark trace` on real traffic: what is seen, how often, and in what order.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash

setup() {
	lab_make
	node client server
	wire client server 1
}

teardown() {
	lab_clean
}

# 2000 requests, the server's clock two hours behind.
keepalive() { # HOST ARGS...
	nginx_start server 80 <<<"$hello"
	trace_start -n netns:client -n netns:server --skew server=-2h "${@:2}"
	requests client 2000 "$1" 80
	trace_stop
}

# One send and one recv a request and a response, at each node.
one_burst_each() {
	expect 2000 '.node == "client" and .type == "send"'
	expect 2000 '.node == "client" and .type == "recv"'
	expect 2000 '.node == "server" and .type == "send"'
	expect 2000 '.node == "server" and .type == "recv"'
	expect 0 '.type == "gap"' # a slow machine may really retransmit; that adds no message
}

@test "2000 requests on one connection are one send and one recv burst each, at each node" {
	keepalive 10.1.0.2
	one_burst_each
	[ "$(pairs)" = 4000 ]
	check_ok
	[ "$(jq .pairs "$DIR/check.json")" -ge 4000 ]
	[ "$(jq .unmatched_recv "$DIR/check.json")" = 0 ]
	# The wall clocks say otherwise: every request came two hours before it was sent.
	[ "$(jq .wall_inversions "$DIR/check.json")" -ge 2000 ]
	valid
}

@test "the same over IPv6" {
	keepalive fd00:1::2
	one_burst_each
	[ "$(pairs)" = 4000 ]
	check_ok
}

@test "with --every-packet there is an event for every segment" {
	keepalive 10.1.0.2 --every-packet
	for node in client server; do
		[ "$(events ".node == \"$node\" and .type == \"send\"")" -ge 2000 ]
		[ "$(events ".node == \"$node\" and .type == \"recv\"")" -ge 2000 ]
	done
	expect 0 '(.type == "send" or .type == "recv") and .packets > 1 and .hlc == .hlc_last'
	[ "$(pairs)" -ge 4000 ]
	check_ok
}

@test "check fails when one stamp is lowered by hand" {
	nginx_start server 80 <<<"$hello"
	trace_start -n netns:client -n netns:server
	requests client 20 10.1.0.2 80
	trace_stop
	check_ok
	local line
	line=$(jq -rn '[inputs | select(.type == "recv" and .cause) | input_line_number][9]' "$LOG")
	[ "$line" -gt 9 ]
	jq -c "if input_line_number == $line then .hlc = .cause | .hlc_last = .cause else . end" \
		"$LOG" >"$DIR/lowered"
	run "$TIDEMARK" check "$DIR/lowered"
	[ "$status" = 1 ]
	[[ $output == *"lowered:$line: "* ]]
}

@test "datagrams asked and answered are paired, over IPv4 and IPv6 (T31)" {
	udp_echo_start server 10.1.0.2 7
	udp_echo_start server fd00:1::2 9
	trace_start -n netns:client -n netns:server --skew client=-3s
	udp_ask client 50 10.1.0.2 7
	udp_ask client 50 fd00:1::2 9
	trace_stop
	for port in 7 9; do
		for node in client server; do
			for type in send recv; do
				expect 50 ".proto == \"udp\" and .node == \"$node\" and .type == \"$type\"
					and any(.src, .dst; endswith(\":$port\"))"
			done
		done
	done
	[ "$(pairs)" = 200 ]
	check_ok
	valid
}

# Client, proxy and server, each request passing all three, one at a time.
chain() { # COUNT TRACE-ARGS...
	node proxy
	wire client proxy 2
	wire proxy server 3
	nginx_start server 80 <<<"$hello"
	nginx_start proxy 80 <<-'EOF'
	location / {
		proxy_pass http://10.3.0.2;
		proxy_http_version 1.1;
		proxy_set_header Connection "";
	}
	EOF
	trace_start -n netns:client -n netns:proxy -n netns:server "${@:2}"
	requests client "$1" 10.2.0.2 80
	trace_stop
}

# What a request and its answer must look like, in order of stamps, so many times.
chain_in_order() {
	local want=' client-send proxy-recv proxy-send server-recv server-send proxy-recv'
	local got

	want+=' proxy-send client-recv'
	got=$(jq -r 'select(.type == "send" or .type == "recv") | "\(.hlc) \(.node)-\(.type)"' "$LOG" |
		LC_ALL=C sort | cut -d ' ' -f 2)
	diff <(for _ in $(seq "$1"); do tr ' ' '\n' <<<"${want# }"; done) - <<<"$got"
}

@test "a request through a proxy is eight events, whose stamps sort into their causal order" {
	chain 200 --skew proxy=-2h --skew server=+3s
	chain_in_order 200
	check_ok
	valid
}

@test "live output is in the order of stamps, and --clock host orders all nodes by one clock" {
	chain 200 --clock host
	jq -r .hlc "$LOG" | LC_ALL=C sort -c
	[ "$(jq -r .hlc "$LOG" | sort | uniq -d | wc -l)" = 0 ]
	chain_in_order 200
}

@test "traffic of a node with itself over lo is sent before it is received, by one clock (T32)" {
	nginx_start server 80 <<<"$hello"
	trace_start -n netns:server
	requests server 50 127.0.0.1 80
	requests server 50 ::1 80
	trace_stop
	expect 200 '.type == "send"'
	expect 200 '.type == "recv"'
	[ "$(pairs)" = 200 ]
	[ "$(jq -r .hlc "$LOG" | sort | uniq -d | wc -l)" = 0 ]
	check_ok
}

@test "a connection older than Tidemark is seen from its middle on" {
	nginx_start server 80 <<<"$hello"
	mkfifo "$DIR/go"
	start client python3 -u -c '
import http.client, sys
c = http.client.HTTPConnection("10.1.0.2", 80, timeout=20)
def ask(n):
    for _ in range(n):
        c.request("GET", "/")
        c.getresponse().read()
ask(5)
print("asked", flush=True)
open(sys.argv[1]).read()
ask(20)
print("done", flush=True)
' "$DIR/go"
	await_line "$DIR/python3.out" asked
	tm up -n netns:client -n netns:server
	trace_start
	echo >"$DIR/go"
	await_line "$DIR/python3.out" 'done'
	await_end "$PID"
	trace_stop
	expect 0 '.type == "connect" or .type == "accept"'
	for node in client server; do
		expect 20 ".node == \"$node\" and .type == \"send\""
		expect 20 ".node == \"$node\" and .type == \"recv\""
	done
	[ "$(pairs)" = 40 ]
	check_ok
	[ "$(tm flows --json | jq -r 'select(.proto == "tcp") | .opener' | sort -u)" = before ]
}

@test "TLS is seen without its keys" {
	openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=lab -days 2 \
		-keyout "$DIR/key" -out "$DIR/cert" 2>/dev/null
	nginx_start server 443 <<-EOF
	listen 8443 ssl;
	ssl_certificate $DIR/cert;
	ssl_certificate_key $DIR/key;
	location / { return 200 "hello\n"; }
	EOF
	trace_start -n netns:client -n netns:server
	in_node client curl -sSk --http1.1 --retry 0 "https://10.1.0.2:8443/[1-20]" -o /dev/null
	trace_stop
	[ "$(events '.node == "client" and .type == "send" and .dst == "10.1.0.2:8443"')" -ge 20 ]
	expect 1 '.type == "connect"'
	expect 1 '.type == "accept"'
	[ "$(events '.type == "recv"')" = "$(pairs)" ]
	check_ok
	[ "$(jq -n '[inputs | select(.node == "client" and .type == "send") | .bytes] | add' "$LOG")" = \
		"$(jq -n '[inputs | select(.node == "server" and .type == "recv") | .bytes] | add' "$LOG")" ]
}
