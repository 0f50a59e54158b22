#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Messages among three hosts whose wall clocks disagree by hours.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash

MESSAGES=${MESSAGES:-300000} # `make million` asks for a million

# As `up` has it, but one datapath for each node, which shares nothing with the others: three hosts.
# Only what travels in the packets can tell one of the clock of another.
host_trace() { # NODE ARGS...
	"$TIDEMARK" trace --json --pin-dir "/sys/fs/bpf/$1" --state-dir "$DIR/state-$1" --ring 256m \
		-n "netns:$1" "${@:2}" >"$DIR/$1.jsonl" 2>"$DIR/$1.err" </dev/null 3>&- &
	PIDS+=($!)
	TRACES+=($!)
	await_line "$DIR/$1.err" 'watching 1 node'
}

setup() {
	lab_make
	TRACES=()
	node a b c
	wire a b 1
	wire b c 2
	wire c a 3
}

teardown() {
	local pid name

	for pid in "${PIDS[@]}"; do
		kill -KILL "$pid" 2>/dev/null
	done
	for name in a b c; do
		"$TIDEMARK" down --pin-dir "/sys/fs/bpf/$name" --state-dir "$DIR/state-$name" 2>/dev/null
	done
	lab_clean
}

@test "messages, a million if asked, over TCP and UDP, v4 and v6, among hosts 3 s and 2 h apart: 0 inversions (T33)" {
	local peers=(--peer 10.0.0.0/8 --peer fd00::/16) chatter=$BUILD/tests/gen_chatter pid

	host_trace a "${peers[@]}" --skew a=+3s
	host_trace b "${peers[@]}"
	host_trace c "${peers[@]}" --skew c=-2h
	start b "$chatter" 7000 10.2.0.2 fd00:2::2 8
	await_line "$DIR/gen_chatter.out" ready
	mv "$DIR/gen_chatter.out" "$DIR/b.out"
	local b=$PID
	start c "$chatter" 7000 10.3.0.2 fd00:3::2 8
	local c=$PID
	await_line "$DIR/gen_chatter.out" ready
	in_node a "$chatter" 7000 10.1.0.2 fd00:1::2 8 $((MESSAGES / 8)) <<<go >"$DIR/a.out"
	await_end "$b" && await_end "$c"
	for pid in "${TRACES[@]}"; do
		kill -INT "$pid"
	done
	for pid in "${TRACES[@]}"; do
		await_end "$pid" 60
	done
	# The logs as they are: no stamp has been repaired.
	"$TIDEMARK" check --json "$DIR"/[abc].jsonl >"$DIR/check.json" 3>&- &
	local check=$!
	PIDS+=("$check")
	"$TIDEMARK" merge -o "$DIR/merged.jsonl" "$DIR"/[abc].jsonl
	run ! grep -q hlc_raw "$DIR/merged.jsonl"
	grep -oE '"hlc":"[0-9a-f]{16}"' "$DIR/merged.jsonl" | LC_ALL=C sort -c
	wait "$check"
	sent=$(awk '/^sent/ { n += $2 } END { print n }' "$DIR"/{a,b,gen_chatter}.out)
	jq -r --arg sent "$sent" '"# \($sent) messages: \(.inversions) inversions, by wall clock " +
		"\(1000 * .wall_inversions / .pairs | round / 10) % of \(.pairs) pairs"' "$DIR/check.json" >&3
	[ "$sent" -ge "$MESSAGES" ]
	# What was folded into a burst with the message before it has no event of its own.
	jq -e '.inversions == 0 and .gaps == 0 and .wall_inversions > 0.3 * .pairs' "$DIR/check.json"
	[ "$(jq .pairs "$DIR/check.json")" -ge $((MESSAGES / 2)) ]
	[ "$(jq .unmatched_recv "$DIR/check.json")" = 0 ]
}
