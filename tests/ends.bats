#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `tidemark trace` begins and ends: which nodes, for how long, for whom, and what it refuses.

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
	[ -z "${GROUP:-}" ] || rmdir "$GROUP"
}

@test "SIGINT, SIGTERM and SIGHUP each print what is left, take the datapath down and exit 0" {
	udp_echo_start server 10.1.0.2 7
	for signal in INT TERM HUP; do
		trace_start -n netns:client -n netns:server
		udp_ask client 25 10.1.0.2 7
		trace_stop "$signal"
		expect 50 '.type == "send"'
		expect 50 '.type == "recv"'
		nothing_attached
	done
}

@test "--duration ends it, with status 0" {
	local began=${EPOCHREALTIME/./} took

	run --separate-stderr tm trace -n netns:client --duration 1s --json
	took=$((${EPOCHREALTIME/./} - began))
	[ "$status" = 0 ]
	[ "$took" -ge 1000000 ]
	[ "$took" -lt 10000000 ]
	[[ $stderr == *'watching 1 nodes'* ]]
	nothing_attached
}

@test "a reader that goes away ends it, and the datapath goes too" {
	udp_echo_start server 10.1.0.2 7
	mkfifo "$DIR/pipe"
	head -n 1 "$DIR/pipe" >"$DIR/first" 3>&- &
	trace_to_pipe -n netns:client -n netns:server
	# Until the pipe breaks; a trace that ignored it would be asked forever.
	await 20 asked_until_ended
	jq -e .hlc "$DIR/first"
	run ! grep -i -e error -e broken "$WORDS"
	nothing_attached
}

trace_to_pipe() {
	WORDS=$DIR/trace.words
	"$TIDEMARK" trace --pin-dir "$PIN" --state-dir "$STATE" --json "$@" \
		>"$DIR/pipe" 2>"$WORDS" </dev/null 3>&- &
	TRACE=$!
	PIDS+=("$TRACE")
	await_line "$WORDS" 'watching [0-9]+ nodes'
}

asked_until_ended() {
	process_ended "$TRACE" && return
	udp_ask client 1 10.1.0.2 7
	return 1
}

@test "only the nodes asked for are traced" {
	udp_echo_start server 10.1.0.2 7
	trace_start -n netns:server
	udp_ask client 10 10.1.0.2 7
	trace_stop
	expect 0 '.node != "server"'
	expect 10 '.type == "recv"'
	expect 10 '.type == "send"'
	# The sender is no node: its stamps are not known, and nothing is made up.
	expect 0 '.type == "recv" and .cause'
}

# What a selector calls the node, by the trace's first line.
named() { # SELECTOR
	trace_start -n "$1"
	trace_stop
	jq -rn '[inputs | select(.type == "node-up") | .node] | join(" ")' "$LOG"
}

@test "a node is named by netns:, path:, pid:, cgroup: or host, and NAME= calls it what you like" {
	local unified

	[ "$(named netns:server)" = server ]
	[ "$(named db=netns:server)" = db ]
	[ "$(named path:/run/netns/server)" = server ]
	[ "$(named it=path:/run/netns/server)" = it ]
	[ "$(named me=host)" = me ]
	[ "$(named host)" = host ]
	start server nc -l 9
	[ "$(named one=pid:"$PID")" = one ]
	[ "$(named pid:"$PID")" = server ]
	unified=$(findmnt -nt cgroup2 -o TARGET | head -n 1)
	GROUP=$unified/tidemark-lab-$$
	mkdir "$GROUP"
	echo "$PID" >"$GROUP/cgroup.procs"
	[ "$(named group=cgroup:"${GROUP##*/}")" = group ]
	kill -KILL "$PID"
	await_end "$PID"
}

@test "two selectors of one namespace make one node" {
	trace_start -n netns:server -n path:/run/netns/server
	trace_stop
	expect 1 '.type == "node-up"'
}

@test "two names for one node are refused, whichever way they are given, and the same one twice is not" {
	run -2 --separate-stderr tm up -n netns:server -n x=netns:server
	[[ $stderr == *'x: is node server already, by an -n before it, and has one name'* ]]
	nothing_attached
	run -2 --separate-stderr tm trace -n x=netns:server -n y=path:/run/netns/server
	[[ $stderr == *'y: is node x already'* ]]
	nothing_attached
	tm up -n x=netns:server -n netns:server -n x=path:/run/netns/server
	[ "$(tm show nodes --json | jq -r .node)" = x ]
}

# ARGS must be refused with this status and these words, and nothing may be left of them.
refused() { # STATUS WORDS ARGS...
	run --separate-stderr tm "${@:3}"
	echo "${*:3}: exit $status: $stderr"
	[ "$status" = "$1" ]
	[[ $stderr == *"$2"* ]]
	[ -z "$output" ]
	[[ ${stderr_lines[0]} == 'tidemark: '* ]]
	nothing_attached
}

@test "what cannot be is refused with a word on it, and nothing is attached" {
	refused 1 'nowhere: no such network namespace' trace -n netns:nowhere
	refused 1 'nowhere' up -n netns:server -n netns:nowhere
	refused 1 '999999999' trace -n pid:999999999
	refused 1 'none9: no such device' trace -i none9
	refused 1 'none9: no such device' up -n netns:server -i none9
	refused 2 'no such node' up -n netns:server --skew client=+1s
	refused 2 '--skew server' trace -n netns:server --skew server
	refused 2 '--skew server=soon' trace -n netns:server --skew server=soon
	refused 2 'clock for the host' up -n netns:server --clock host --skew server=+1s
	refused 2 '--clock sun' up --clock sun
	refused 2 '--duration soon' trace --duration soon
	refused 2 '--duration 0s' trace --duration 0s
	refused 2 '--ring 1k' trace --ring 1k
	refused 2 '--flows none' up --flows none
	refused 2 '--nodes 0' up --nodes 0
	refused 2 '--attach glue' up --attach glue
	refused 2 'moon:1' trace -n moon:1
}

@test "an unknown option, and an unknown command, exit 2" {
	local command

	for command in up down show doctor flows trace check; do
		run "$TIDEMARK" "$command" --no-such-option
		[ "$status" = 2 ]
	done
	run "$TIDEMARK" dance
	[ "$status" = 2 ]
	[[ $output == *'dance: no such command'* ]]
	run "$TIDEMARK" show nothing
	[ "$status" = 2 ]
	nothing_attached
}

@test "every command has --help with an example, and exits 0" {
	local command

	for command in up down show doctor flows trace check; do
		run --separate-stderr "$TIDEMARK" "$command" --help
		[ "$status" = 0 ]
		[[ $output == *[Ee]xample*"  tidemark $command"* ]]
		[ -z "$stderr" ]
	done
	run "$TIDEMARK" --help
	[ "$status" = 0 ]
	run "$TIDEMARK" --version
	[ "$status" = 0 ]
}

@test "a second trace is told who reads, and exits 1, and the first goes on" {
	udp_echo_start server 10.1.0.2 7
	trace_start -n netns:client -n netns:server
	udp_ask client 10 10.1.0.2 7
	run tm trace --json
	echo "$output"
	[ "$status" = 1 ]
	[[ $output == *"process $TRACE"* ]]
	udp_ask client 10 10.1.0.2 7
	trace_stop
	expect 40 '.type == "send"'
	expect 40 '.type == "recv"'
	nothing_attached
}

@test "a trace of a datapath that is up leaves it up, and prints only the nodes it is asked for" {
	udp_echo_start server 10.1.0.2 7
	tm up -n netns:client -n netns:server
	trace_start -n netns:client
	udp_ask client 10 10.1.0.2 7
	trace_stop
	expect 0 '.node != "client"'
	expect 10 '.type == "send"'
	[ -e "$PIN/flows" ]
	# The same again, all of it.
	trace_start
	udp_ask client 10 10.1.0.2 7
	trace_stop
	expect 20 '.type == "send"'
	run tm trace -n host
	[ "$status" = 1 ]
	[[ $output == *'not a node of the datapath that is up'* ]]
}

@test "the table without --json names each event once, and stays within a terminal" {
	udp_echo_start server 10.1.0.2 7
	"$TIDEMARK" trace --pin-dir "$PIN" --state-dir "$STATE" -n netns:client -n netns:server \
		>"$DIR/table" 2>"$DIR/words" 3>&- &
	TRACE=$!
	PIDS+=("$TRACE")
	await_line "$DIR/words" watching
	udp_ask client 10 10.1.0.2 7
	kill "$TRACE"
	wait "$TRACE"
	[ "$(grep -c ' send ' "$DIR/table")" = 20 ]
	[ "$(grep -c ' recv ' "$DIR/table")" = 20 ]
	[ -z "$(awk 'length > 100' "$DIR/table")" ]
}

