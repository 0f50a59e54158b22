#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `tidemark trace` beside a daemon: the same events, as many traces as there are.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2034,SC2153,SC2154

load lab.bash
load run.bash

setup() {
	lab_make
	node client server
	wire client server 1
	udp_echo_start server 10.1.0.2 7
	run_start <<<$'nodes: [netns:client, netns:server]\ntrace: {write: {dir: '"$DIR/log}}"
}

teardown() {
	lab_clean
}

# A trace in the background, which prints to a file; leaves its pid in LIVE.
live_start() { # NAME ARGS...
	"$TIDEMARK" trace --pin-dir "$PIN" --state-dir "$STATE" "${@:2}" \
		>"$DIR/$1" 2>"$DIR/$1.words" </dev/null 3>&- &
	LIVE=$!
	PIDS+=("$LIVE")
	await_line "$DIR/$1.words" 'watching 2 nodes'
}

readers_are() { # N, as the daemon says each second
	[ "$(tm show daemon --state-dir "$STATE" --json |
		jq -r 'select(.sink == "trace").readers')" = "$1" ]
}

@test "two traces beside a daemon print the lines that the daemon writes, the table too" {
	local first table

	live_start json --json --log "$DIR/kept.jsonl"
	first=$LIVE
	live_start table
	table=$LIVE
	await 10 readers_are 2
	udp_ask client 10 10.1.0.2 7
	kill -INT "$first" "$table"
	wait "$first"
	wait "$table"
	run_stop
	[ "$(events '.type == "send"' "$DIR/json")" = 20 ]
	zstd -dcf "$DIR"/log/*.zst >"$DIR/written"
	grep -F -x -f "$DIR/json" "$DIR/written" | cmp - "$DIR/json"
	cmp "$DIR/json" "$DIR/kept.jsonl"
	check_ok "$DIR/json"
	valid "$DIR/json"
	# As many rows, and a heading.
	[ "$(wc -l <"$DIR/table")" = $(($(wc -l <"$DIR/json") + 1)) ]
	[ "$(grep -c '10.1.0.2:7' "$DIR/table")" -ge 40 ]
	nothing_attached
}

@test "only the nodes asked for are printed, for as long as asked" {
	live_start json --json -n netns:client --duration 2s
	udp_ask client 3 10.1.0.2 7
	wait "$LIVE"
	[ "$(events '.node == "client" and .type == "send"' "$DIR/json")" = 3 ]
	[ "$(events '.node != "client"' "$DIR/json")" = 0 ]
	run_stop
}

@test "what is the daemon's to do is refused by name, and a node it does not have" {
	local words

	for words in '--skew client=+3s' '--peer 10.0.0.0/8' '--every-packet' '--clock host' \
		'-i lo' "--write $DIR/other"; do
		# Words are two arguments.
		# shellcheck disable=SC2086
		run "$TIDEMARK" trace --pin-dir "$PIN" --state-dir "$STATE" $words
		[ "$status" = 2 ]
		[[ $output == *"${words%% *}"*"is the daemon's to do, process $RUN"* ]]
	done
	node other
	run "$TIDEMARK" trace --pin-dir "$PIN" --state-dir "$STATE" -n netns:other
	[ "$status" = 1 ]
	[[ $output == *'other: not a node of the datapath'* ]]
	run_stop
	nothing_attached
}

@test "a trace whose daemon ends says so" {
	local status=0

	live_start json --json
	run_stop
	wait "$LIVE" || status=$?
	[ "$status" = 1 ]
	grep -q 'the daemon that read the events has ended' "$DIR/json.words"
	nothing_attached
}

@test "another trace is no daemon: the second is refused, as ever" {
	run_stop
	trace_start -n netns:client
	run "$TIDEMARK" trace --pin-dir "$PIN" --state-dir "$STATE" -n netns:client
	[ "$status" = 1 ]
	[[ $output == *"events are being read by process $TRACE"* ]]
	trace_stop
}
