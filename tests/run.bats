#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `tidemark run`: starts, follows, serves, reloads, stops; and what survives when it is killed.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash
load run.bash

setup() {
	lab_make
	node client server
	wire client server 1
	udp_echo_start server 10.1.0.2 7
}

teardown() {
	lab_clean
}

both='nodes: [netns:client, netns:server]'

clock_of() {
	tm show nodes --json | jq -r "select(.node == \"$1\") | .hlc"
}

packets_of() { # NODE
	tm flows --json -n "$1" | jq -s '[.[] | select(.proto == "udp") | .out_packets] | add // 0'
}

nodes_are() { # NAME...
	[ "$(tm show nodes --json | jq -r .node | sort | xargs)" = "$*" ]
}

@test "the daemon says when it is ready, what it does, and that it lives, and leaves nothing" {
	socat -u "UNIX-RECV:$DIR/notify" "OPEN:$DIR/notified,creat,append" 3>&- &
	PIDS+=($!)
	await 10 test -S "$DIR/notify"
	world_snapshot >"$DIR/before"
	NOTIFY_SOCKET=$DIR/notify WATCHDOG_USEC=200000 run_start <<<"$both"
	await_line "$DIR/notified" 'READY=1'
	await_line "$DIR/notified" 'WATCHDOG=1'
	await_line "$DIR/notified" 'STATUS=2 nodes, '
	kill -HUP "$RUN"
	await_line "$DIR/notified" 'MONOTONIC_USEC=[0-9]+'
	run_stop
	grep -q STOPPING=1 "$DIR/notified"
	world_snapshot | diff "$DIR/before" -
	nothing_attached
}

# Rings are 1 MiB a CPU and mapped twice: kernel memory, which counts as ours all the same.
@test "the idle daemon holds no more than 4 MiB besides its rings" {
	local rings

	file "$TIDEMARK" | grep -qE 'statically linked|static-pie' || skip 'not the binary as shipped'
	run_start <<<"$both
api: {listen: ['$API']}"
	await 10 ask / -o /dev/null
	rings=$(($(nproc --all) * 2048))
	echo "$(grep -E 'VmRSS|Rss' "/proc/$RUN/status"), rings $rings kB"
	[ "$(awk '/VmRSS/ { print $2 }' "/proc/$RUN/status")" -le $((rings + 4096)) ]
	run_stop
}

@test "who runs is shown, with its configuration and sinks; when none runs that is said" {
	run_start <<-EOF
	$both
	trace: {write: {dir: $DIR/log}}
	EOF
	await 10 tm show daemon --state-dir "$STATE"
	tm show daemon --state-dir "$STATE" --json >"$DIR/shown"
	[ "$(jq -r 'select(.show == "daemon") | .pid' "$DIR/shown")" = "$RUN" ]
	[ "$(jq -r 'select(.show == "daemon") | .config' "$DIR/shown")" = "$DIR/run.yaml" ]
	[ "$(jq -r 'select(.sink == "write") | .where' "$DIR/shown")" = "$DIR/log" ]
	kill -KILL "$RUN"
	wait "$RUN" || :
	run tm show daemon --state-dir "$STATE"
	[ "$status" = 1 ]
	[[ $output == *'no daemon runs'* ]]
}

@test "a configuration with an error is refused with its place, and nothing is changed" {
	world_snapshot >"$DIR/before"
	run_fails <<<$'nodes: [netns:client]\ntrace:\n  evry_packet: true'
	[ "$status" = 2 ]
	[[ $output == *"run.yaml:3:3: evry_packet: no such key; did you mean every_packet?"* ]]
	run_fails --check-config <<<'api: {listen: ["0.0.0.0:9464"]}'
	[ "$status" = 2 ]
	[[ $output == *'run.yaml:1:16: '*token* ]]
	run "$TIDEMARK" run -c "$DIR/none.yaml"
	[ "$status" = 2 ]
	[[ $output == *"none.yaml: No such file"* ]]
	run_fails --check-config <<<"$both"
	[ "$status" = 0 ]
	world_snapshot | diff "$DIR/before" -
	[ ! -e "$STATE" ]
}

@test "the sample configuration is right" {
	"$TIDEMARK" run --check-config -c "$BATS_TEST_DIRNAME/../tools/tidemark.yaml"
	# Also with all that is off switched on.
	(umask 077 && head -c 32 /dev/urandom >"$DIR/key")
	sed 's/^\( *\)#\([a-z]\)/\1\2/; s/^#  - /  - /; s/^  #  \([a-z]\)/    \1/; /^mark:/,/^$/ s/^#  /  /
		s/^#  \([a-z]\)/  \1/; s/^#    \([-a-z]\)/    \1/; s|/etc/tidemark/record.key|'"$DIR/key|" \
		"$BATS_TEST_DIRNAME/../tools/tidemark.yaml" >"$DIR/all.yaml"
	grep -q '^    url: ' "$DIR/all.yaml"
	grep -q '^nodes:' "$DIR/all.yaml"
	grep -q '^peers:' "$DIR/all.yaml"
	grep -q '^    ca: ' "$DIR/all.yaml"
	"$TIDEMARK" run --check-config -c "$DIR/all.yaml"
}

@test "a start that fails exits non-zero with the reason, and takes away what it made" {
	start client true
	socat TCP-LISTEN:9464,bind=127.0.0.1,fork - 3>&- </dev/null &
	PIDS+=($!)
	await 10 bash -c "ss -Hltn 'sport = :9464' | grep -q ."
	run_fails <<-EOF
	$both
	api: {listen: ["$API"]}
	EOF
	[ "$status" = 1 ]
	[[ $output == *"$API: cannot listen there: Address already in use"* ]]
	nothing_attached
	run_fails <<<'nodes: ["interface:none9"]'
	[ "$status" = 1 ]
	[[ $output == *'none9: no such device'* ]]
	nothing_attached
	trace_start -n netns:client
	run_fails <<<"$both"
	[ "$status" = 1 ]
	[[ $output == *"events are being read by process $TRACE"* ]]
	trace_stop
}

@test "killed, it leaves the datapath working, and the next one goes on with it" {
	local programs clock

	run_start <<<"$both"
	udp_ask client 5 10.1.0.2 7
	programs=$(bpftool -j prog show pinned "$PIN/pipeline" | jq .id)
	kill -KILL "$RUN"
	await_end "$RUN"
	clock=$(clock_of client)
	udp_ask client 5 10.1.0.2 7
	[[ $(clock_of client) > "$clock" ]]
	run_again
	grep -q 'going on with the datapath' "$WORDS"
	[ "$(bpftool -j prog show pinned "$PIN/pipeline" | jq .id)" = "$programs" ]
	udp_ask client 5 10.1.0.2 7
	[ "$(packets_of client)" = 15 ]
	run_stop
	nothing_attached
}

@test "what up made, and what keep says, is still up after the daemon" {
	tm up -n netns:client
	run_start <<<'nodes: [netns:client]'
	run_stop
	nodes_are client
	tm down
	run_start <<<$'nodes: [netns:client]\ntrace: {keep: true}'
	run_stop
	nodes_are client
}

@test "a node that is not there yet is waited for, and followed when it comes" {
	run_start <<<'nodes: [netns:client, netns:later]'
	nodes_are client
	node later
	wire client later 2
	in_node later true
	await 10 nodes_are client later
	run_stop
}

attached() { # NODE DEVICE
	tm show attachments --json | jq -r '"\(.node) \(.device)"' | grep -qx "$1 $2"
}

@test "reload: nodes come and go, flows and clocks of the others stay" {
	local clock

	run_start <<<'nodes: [netns:client]'
	udp_ask client 5 10.1.0.2 7
	clock=$(clock_of client)
	echo "$both" >"$DIR/run.yaml"
	kill -HUP "$RUN"
	await_line "$WORDS" 'reloaded, watching 2 nodes'
	udp_ask client 5 10.1.0.2 7
	[ "$(packets_of client)" = 10 ]
	[[ $(clock_of client) > "$clock" ]]
	echo 'nodes: [netns:client]' >"$DIR/run.yaml"
	kill -HUP "$RUN"
	await_line "$WORDS" 'server: no longer among the nodes'
	nodes_are client
	udp_ask client 5 10.1.0.2 7
	[ "$(packets_of client)" = 15 ]
	# And back: it is followed again, also devices that come.
	echo "$both" >"$DIR/run.yaml"
	kill -HUP "$RUN"
	await 10 nodes_are client server
	wire client server 5
	await 10 attached server w5
	run_stop
	nothing_attached
}

@test "reload of a bad file is refused with words, and what was before stays" {
	run_start <<-EOF
	$both
	api: {listen: ["$API"]}
	EOF
	echo 'nodes: [netns:client' >"$DIR/run.yaml"
	kill -HUP "$RUN"
	await_line "$WORDS" 'run.yaml:[0-9]+:[0-9]+: '
	await_line "$WORDS" 'the configuration before stays'
	nodes_are client server
	[ "$(status_of /healthz)" = 200 ]
	# Right, but this machine would not have it; or not while the datapath works.
	printf '%s\n' "$both" 'api: {listen: ["192.0.2.1:80"], token: /none}' >"$DIR/run.yaml"
	: >"$WORDS"
	kill -HUP "$RUN"
	await_line "$WORDS" 'the configuration before stays'
	[ "$(status_of /healthz)" = 200 ]
	printf '%s\n' "$both" 'trace: {clock: host}' >"$DIR/run.yaml"
	kill -HUP "$RUN"
	await_line "$WORDS" 'trace.clock cannot change'
	[ "$(metric tidemark_reloads_refused_total)" = 3 ]
	# Still reading events.
	udp_ask client 5 10.1.0.2 7
	await 10 bash -c "curl -s $API/metrics | grep -E '^tidemark_events_total [1-9][0-9]'"
	run_stop
}

# Which of root's capabilities are enough: docs/daemon.md has the table.
caps='bpf,perfmon,net_admin,net_broadcast,sys_admin,sys_ptrace,dac_read_search,net_raw'

with_caps() { # LIST COMMAND...
	# From what setpriv calls "none" up: bounding set and with it what root gets at exec.
	setpriv --bounding-set "-all,+${1//,/,+}" --inh-caps -all --no-new-privs -- "${@:2}"
}

@test "the capabilities of the unit are enough" {
	local bin=$TIDEMARK

	[ "$(sed -n 's/^CapabilityBoundingSet=//p' "$BATS_TEST_DIRNAME/../tools/tidemark.service" |
		xargs)" = "$(tr a-z, 'A-Z ' <<<"$caps" | sed 's/[^ ]*/CAP_&/g')" ]
	with_caps "$caps" true || skip 'setpriv cannot'
	printf '#!/bin/bash\nexec setpriv --bounding-set "-all,+%s" --inh-caps -all %s "$@"\n' \
		"${caps//,/,+}" "--no-new-privs -- $bin" >"$DIR/confined"
	chmod +x "$DIR/confined"
	TIDEMARK=$DIR/confined
	run_start <<-EOF
	nodes: [netns:client, netns:server, netns:later]
	trace: {write: {dir: $DIR/log}, socket: {path: $DIR/events, uid: 1234}}
	api: {listen: ["$API", "unix:$DIR/api"]}
	EOF
	TIDEMARK=$bin
	[ "$(grep -c 'processes are not watched' "$WORDS")" = 0 ]
	udp_ask client 5 10.1.0.2 7
	node later
	in_node later true
	await 10 nodes_are client later server
	run_stop
	nothing_attached
	[ "$(zstdcat "$DIR"/log/*.zst | grep -c '"send"')" -ge 5 ]
}

@test "a configuration may come through a pipe, and one that nobody writes to is not waited for" {
	local began=$SECONDS

	mkfifo "$DIR/pipe"
	run -2 --separate-stderr timeout 20 "$TIDEMARK" run -c "$DIR/pipe" --check-config
	[[ $stderr == *"$DIR/pipe: a pipe to which nobody has written for five seconds; give a file"* ]]
	[ $((SECONDS - began)) -lt 15 ]
	echo 'nodes: ["netns:a"]' >"$DIR/pipe" &
	run -0 timeout 20 "$TIDEMARK" run -c "$DIR/pipe" --check-config
	wait "$!"
	run -2 --separate-stderr timeout 20 "$TIDEMARK" run --check-config -c <(echo 'nodes: [}')
	[[ $stderr == *'tidemark: run: /dev/fd/'*':1:9: '* ]]
	run -2 --separate-stderr timeout 20 "$TIDEMARK" run --check-config -c "$DIR"
	[[ $stderr == *"$DIR: Is a directory"* ]]
}
