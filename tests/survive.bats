#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Killed at any time, started again: nothing half-attached, nothing lost, no stamp twice.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash

setup() {
	lab_make
	node client server
	wire client server 1
	udp_echo_start server 10.1.0.2 7
}

teardown() {
	lab_clean
}

trace_kill() {
	kill -KILL "$TRACE"
	wait "$TRACE" || :
}

udp_packets() { # NODE
	tm flows --json -n "$1" | jq -s '[.[] | select(.proto == "udp") | .out_packets] | add // 0'
}

clock_of() {
	tm show nodes --json | jq -r "select(.node == \"$1\") | .hlc"
}

highest() { # LOG NODE
	jq -r "select(.node == \"$2\") | .hlc_last // .hlc" "$1" | LC_ALL=C sort | tail -n 1
}

lowest() {
	jq -r "select(.node == \"$2\") | .hlc" "$1" | LC_ALL=C sort | head -n 1
}

@test "when trace is killed the datapath works on, and the next trace goes on where it was" {
	local before flows clock programs

	trace_start -n netns:client -n netns:server
	udp_ask client 10 10.1.0.2 7
	await 10 grep -q '"recv"' "$LOG"
	trace_kill
	cp "$LOG" "$DIR/first"
	before=$(highest "$DIR/first" client)
	clock=$(clock_of client)
	flows=$(udp_packets client)
	programs=$(bpftool -j prog show pinned "$PIN/pipeline" | jq .id)
	[ "$flows" = 10 ]
	# Nobody there, and still counting and ticking.
	udp_ask client 10 10.1.0.2 7
	[ "$(udp_packets client)" = 20 ]
	[[ $(clock_of client) > "$clock" ]]
	trace_start
	[ "$(bpftool -j prog show pinned "$PIN/pipeline" | jq .id)" = "$programs" ]
	[ "$(udp_packets client)" = 20 ]
	udp_ask client 10 10.1.0.2 7
	[ "$(udp_packets client)" = 30 ]
	trace_stop
	# Ten of them happened with nobody there: they waited in the rings.
	expect 40 '.type == "send"'
	[[ $(lowest "$LOG" client) > "$before" ]]
	cat "$DIR/first" "$LOG" >"$DIR/both"
	check_ok "$DIR/both"
	nothing_attached
}

@test "counters of an adopted datapath go on" {
	local seen

	tm up -n netns:client -n netns:server
	udp_ask client 10 10.1.0.2 7
	seen=$(tm show stages --json | jq 'select(.stage == "parse" and .dir == "in") | .seen')
	trace_start
	trace_kill
	udp_ask client 10 10.1.0.2 7
	[ "$(tm show stages --json | jq 'select(.stage == "parse" and .dir == "in") | .seen')" \
		-ge $((seen + 20)) ]
	trace_start
	trace_stop
	[ -e "$PIN/flows" ]
}

@test "who traced was killed: --every-packet, which it had asked for, does not stay" {
	tm up -n netns:client -n netns:server
	trace_start --every-packet
	trace_kill
	trace_start
	udp_ask client 1 10.1.0.2 7
	trace_stop
	[ "$(bpftool -j map dump pinned "$PIN/settings" |
		jq '.[0].formatted.value.every_packet')" = 0 ]
}

@test "up, killed at any moment, is recovered by down, and nothing is left" {
	killed_at_moments down
}

@test "up, killed at any moment, is recovered by another up" {
	killed_at_moments up
}

# At 8 moments, evenly over the time that a whole run takes, which is what the last whole one took.
killed_at_moments() {
	local i killed=0 whole=0 partly=0 began=${EPOCHREALTIME/./} took

	tm up -n netns:client -n netns:server
	took=$((${EPOCHREALTIME/./} - began))
	tm down
	world_snapshot >"$DIR/before"
	for i in $(seq 8); do
		began=${EPOCHREALTIME/./}
		run timeout -s KILL "$(printf %d.%06d $((i * took / 10 / 1000000)) $((i * took / 10 % 1000000)))" \
			"$TIDEMARK" up --state-dir "$STATE" -n netns:client -n netns:server
		case $status in
		137) killed=$((killed + 1)) ;;
		0) whole=$((whole + 1)) took=$((${EPOCHREALTIME/./} - began)) ;;
		*) echo "$output"; return 1 ;;
		esac
		world_snapshot | diff -q "$DIR/before" - >/dev/null || partly=$((partly + 1))
		if [ "$1" = up ]; then
			tm up -n netns:client -n netns:server
			[ "$(tm show attachments --json | jq -s length)" = 4 ]
			udp_ask client 2 10.1.0.2 7
			[ "$(udp_packets client)" = 2 ] || [ "$whole" -gt 0 ]
		fi
		objects >"$DIR/objects"
		tm down
		nothing_attached
		await 10 objects_gone "$DIR/objects"
		await 10 same_world
	done
	echo "# $killed killed, $partly of them with something done, $whole got through" >&3
	[ "$killed" -ge 4 ]
	[ "$partly" -ge 1 ]
}

same_world() {
	world_snapshot | diff "$DIR/before" -
}

# At each bpf() call: exactly there, as no timing could.
@test "up, killed inside any of its calls into the kernel, leaves nothing that down cannot find" {
	local calls i

	command -v strace >/dev/null || skip 'no strace'
	world_snapshot >"$DIR/before"
	calls=$(strace -qq -c -e trace=bpf "$TIDEMARK" up --state-dir "$STATE" -n netns:client 2>&1 \
		>/dev/null | awk '$NF == "bpf" { print $4 }')
	tm down
	[ "$calls" -gt 40 ]
	for i in $(seq 3 $((calls / 12 + 1)) "$calls"); do
		run strace -qq -o /dev/null -e trace=bpf -e inject=bpf:signal=KILL:when="$i" \
			"$TIDEMARK" up --state-dir "$STATE" -n netns:client
		tm down
		nothing_attached
		await 10 same_world
	done
}

@test "down, killed at any moment, is finished by the next one" {
	local i

	world_snapshot >"$DIR/before"
	for i in $(seq 8); do
		tm up -n netns:client -n netns:server
		objects >"$DIR/objects"
		run timeout -s KILL "0.00$i" "$TIDEMARK" down --state-dir "$STATE"
		tm down
		nothing_attached
		await 10 objects_gone "$DIR/objects"
		await 10 same_world
	done
}

# One exchange while a trace of its own runs; its log goes to a file.
exchange() { # FILE ARGS...
	trace_start -n netns:client -n netns:server "${@:2}"
	udp_ask client 10 10.1.0.2 7
	trace_stop
	cp "$LOG" "$1"
}

stamps_go_on() { # FIRST SECOND
	for node in client server; do
		[[ $(lowest "$2" "$node") > $(highest "$1" "$node") ]]
	done
	cat "$1" "$2" >"$DIR/all"
	check_ok "$DIR/all"
	[ -z "$(jq -r 'select(.hlc_last) | .node + .hlc' "$DIR/all" | sort | uniq -d)" ]
}

@test "after down and up again, the stamps of a node are above those before" {
	exchange "$DIR/one"
	exchange "$DIR/two"
	stamps_go_on "$DIR/one" "$DIR/two"
}

@test "after a reboot with the clock set back an hour they are above them too" {
	exchange "$DIR/one" --skew client=+1h --skew server=+1h
	# Nothing of the bpf file system is left after a reboot, only the state directory.
	umount /sys/fs/bpf
	mount -t bpf none /sys/fs/bpf
	exchange "$DIR/two"
	stamps_go_on "$DIR/one" "$DIR/two"
}

@test "after a crash, when nobody could save anything at the end, they are above them too" {
	trace_start -n netns:client -n netns:server --skew client=+1h
	udp_ask client 10 10.1.0.2 7
	await 10 grep -q '"recv"' "$LOG"
	await 5 grep -q client "$STATE/clocks"
	cp "$STATE/clocks" "$DIR/saved"
	trace_kill
	cp "$LOG" "$DIR/one"
	tm down
	# What was on disk when the machine stopped.
	cp "$DIR/saved" "$STATE/clocks"
	exchange "$DIR/two"
	[[ $(lowest "$DIR/two" client) > $(highest "$DIR/one" client) ]]
}

@test "without the state they would not be: the test above can fail" {
	exchange "$DIR/one" --skew client=+1h
	rm -r "$STATE"
	exchange "$DIR/two"
	[[ $(lowest "$DIR/two" client) < $(highest "$DIR/one" client) ]]
}

@test "a damaged state file is kept aside and said, and clocks start above what is left of it" {
	exchange "$DIR/one" --skew client=+1h
	head -c -5 "$STATE/clocks" >"$DIR/cut"
	cp "$DIR/cut" "$STATE/clocks"
	exchange "$DIR/two"
	grep -F damaged "$WORDS"
	cmp "$DIR/cut" "$STATE/clocks.damaged"
	stamps_go_on "$DIR/one" "$DIR/two"
	# Rubbish is no reason to give up either.
	head -c 1000 /dev/urandom >"$STATE/clocks"
	exchange "$DIR/three"
	grep -F damaged "$WORDS"
	expect 20 '.type == "send"'
	tail -n 1 "$STATE/clocks" | grep -x end
}

@test "a state directory that cannot be made is warned of, and the trace goes on" {
	STATE=/proc/tidemark
	trace_start -n netns:client -n netns:server
	udp_ask client 10 10.1.0.2 7
	trace_stop
	[ "$(grep -c "$STATE" "$WORDS")" = 1 ]
	expect 20 '.type == "send"'
}

@test "a state directory that is a file is refused, and nothing is attached" {
	printf x >"$DIR/file"
	run "$TIDEMARK" up --state-dir "$DIR/file" -n netns:client
	[ "$status" = 1 ]
	[[ $output == *"$DIR/file"* ]]
	nothing_attached
}

@test "a pin that somebody removed is noticed, and down removes the rest" {
	tm up -n netns:client -n netns:server
	rm "$PIN/flows"
	run tm up
	[ "$status" = 1 ]
	[[ $output == *'not a whole datapath'*'tidemark down'* ]]
	tm down
	nothing_attached
}
