#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `--burst flow`: fewer events where many flows take turns, and a log that says so.

# Variables of bats, of lab.bash and of inband.bash:
# shellcheck disable=SC2030,SC2031,SC2034,SC2153,SC2154

load lab.bash
load run.bash
load inband.bash

setup() {
	lab_make
	HOST_PINS=()
	node a b
	wire a b 1
}

teardown() {
	hosts_clean
	lab_clean
}

# Twenty flows that take turns, fifty times. A pipe says when a round has arrived, so that no
# datagram finds the socket full; an answer would turn the flow around.
turns() {
	rm -f "$DIR/rounds"
	mkfifo "$DIR/rounds"
	start b python3 -c '
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.1.0.2", 7))
rounds = open(sys.argv[1], "w")
for i in range(50):
    for j in range(20):
        s.recv(1000)
    print("round", file=rounds, flush=True)
' "$DIR/rounds"
	in_node a timeout 30 python3 -c '
import socket, sys
flows = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for i in range(20)]
rounds = open(sys.argv[1])
for s in flows:
    s.connect(("10.1.0.2", 7))
for i in range(50):
    for s in flows:
        s.send(b"x" * 100)
    assert rounds.readline() == "round\n"
' "$DIR/rounds"
}

# Everything there was, in so many sends at most.
all_of_it() { # MOST
	jq -en --argjson most "$1" '
		[inputs | select(.proto == "udp" and .dst == "10.1.0.2:7")] as $all
		| ("send", "recv") as $type
		| [$all[] | select(.type == $type)]
		| (map(.bytes) | add) == 100000 and (map(.packets) | add) == 1000
			and ($type == "recv" or length <= $most)' "$LOG" | {
		! grep -v true
	} || {
		jq -c . "$LOG" | head -50 >&2
		return 1
	}
	[ "$(events '.type == "gap"')" = 0 ]
}

@test "by default every turn is a burst; with --burst flow a flow's turns are few, and nothing is left out" {
	trace_start -n netns:a -n netns:b --skew b=-2h
	turns
	trace_stop
	expect 1000 '.type == "send" and .dst == "10.1.0.2:7"'
	expect 0 '.burst'
	trace_start -n netns:a -n netns:b --skew b=-2h --burst flow
	turns
	trace_stop
	grep -q 'bursts are per flow (--burst flow)' "$WORDS"
	all_of_it 400
	expect 0 '(.type | IN("send", "recv", "node-up")) and .burst != "flow"'
	[ "$(pairs)" -ge 20 ]
	check_ok
	jq -e '.unmatched_recv == 0 and .unmatched_send == 0' "$DIR/check.json"
	valid
	"$TIDEMARK" merge -o "$DIR/all.jsonl" "$LOG"
	check_ok "$DIR/all.jsonl"
}

@test "requests and replies with --burst flow are an event each way, as they turn around" {
	nginx_start b 80 <<<"$hello"
	trace_start -n netns:a -n netns:b --skew b=-2h --burst flow
	requests a 200 10.1.0.2 80
	trace_stop
	expect 200 '.node == "a" and .type == "send"'
	expect 200 '.node == "b" and .type == "recv"'
	check_ok
	valid
}

@test "a trace of a datapath that is up by flow has it in its log, and one by node is not turned" {
	tm up -n netns:a -n netns:b --burst flow
	trace_start
	turns
	trace_stop
	all_of_it 400
	expect 0 '(.type | IN("send", "recv")) and .burst != "flow"'
	run -0 tm up --burst flow
	tm down
	tm up -n netns:a
	run -1 tm up --burst flow
	[[ $output == *'already up, without --burst flow'* ]]
	run -1 tm trace --burst flow
	[[ $output == *'without --burst flow'* ]]
}

@test "hosts that exchange clocks in packets do so with --burst flow too, TCP and UDP" {
	tcp_echo_start b 9000
	udp_echo_start b 10.1.0.2 7
	hosts --burst flow
	tcp_same a 10.1.0.2 9000 100000 5
	tcp_same a fd00:1::2 9000 100 50
	udp_ask a 50 10.1.0.2 7
	hosts_stop
	ordered 200
	wall_wrong 30
	expect 0 '.type == "recv" and .via != "in-band"'
	expect 0 '(.type | IN("send", "recv")) and .burst != "flow"'
	jq -e '.unmatched_recv == 0' "$DIR/check.json"
}

@test "the daemon takes it from its configuration, and refuses what is no kind of burst" {
	run_start <<-EOF
	nodes: ["netns:a", "netns:b"]
	trace: {burst: flow, write: {dir: $DIR/log}}
	EOF
	turns
	run -2 tm trace --burst flow
	[[ $output == *"--burst: is the daemon's to do"* ]]
	run_stop
	zstd -dcq "$DIR"/log/*.jsonl.zst >"$DIR/run.jsonl"
	LOG=$DIR/run.jsonl
	all_of_it 400
	expect 0 '(.type | IN("send", "recv")) and .burst != "flow"'
	run_fails <<<'trace: {burst: each}'
	[ "$status" = 2 ]
	[[ $output == *'run.yaml:1:16: trace.burst: each: not a kind of burst; node or flow'* ]] || {
		echo "$output"
		false
	}
	run_fails <<<'trace: {burst: flow, every_packet: true}'
	[ "$status" = 2 ]
	run -2 tm up -n netns:a --burst each
	[[ $output == *'--burst each: not a kind of burst; node or flow'* ]]
	run -2 tm up -n netns:a --burst flow --every-packet
	[[ $output == *'with --every-packet there are no bursts'* ]]
	[ ! -e "$PIN" ]
}
