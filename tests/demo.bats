#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `make demo`, whole and interrupted; and `trace --log`, from which it draws its conclusions.

bats_require_minimum_version 1.5.0

setup()
{
	local program

	for program in nginx haproxy curl jq; do
		command -v $program >/dev/null || skip "$program is not installed"
	done
	cd "$BATS_TEST_DIRNAME/.." || return
	dir=$BATS_TEST_TMPDIR
	export TIDEMARK=${TIDEMARK:-./tidemark} TERM=xterm
}

# The demo in the background until its table has a reply of the proxy; then what it has made.
demo_start()
{
	local child pin tries

	set -m # it shall hear an interrupt, which background jobs otherwise do not
	tools/demo >"$dir/out" 2>"$dir/err" 3>&- &
	demo=$!
	set +m
	for ((tries = 0; tries < 500; tries++)); do
		grep -q 'client .* recv' "$dir/out" && break
		kill -0 $demo || return
		sleep 0.02
	done
	child=$(pgrep -P "$(pgrep -P $demo)")
	world=$(readlink "/proc/$child/ns/pid")
	maps=$(for pin in nodes clocks flows embryonic sends settings owners; do
		nsenter -t "$child" -m -p bpftool map show pinned "/sys/fs/bpf/tidemark/$pin" |
			sed -n 's/^\([0-9]*\):.*/\1/p'
	done)
	[ "$(wc -w <<<"$maps")" = 7 ]
}

# The kernel takes its time to clear a network namespace away. Asking for a program array while
# it dies would make the kernel keep it (see maps_await_end() in user/tidemark.c), so its map is
# not among those asked for.
left_behind()
{
	local map tries left

	for ((tries = 0; tries < 200; tries++)); do
		left=
		for map in $maps; do
			! bpftool map show id "$map" >/dev/null 2>&1 || left+=" map $map"
		done
		left+=$(find /proc -maxdepth 3 -path '*/ns/pid' -lname "$world" 2>/dev/null)
		[ -n "$left" ] || return 1
		sleep 0.05
	done
	echo "left behind:$left"
}

@test "the demo says how many messages each order puts wrong: some by wall clock, none by ours" {
	run --separate-stderr tools/demo
	echo "$output $stderr"
	[ "$status" = 0 ]
	[ -z "$stderr" ]
	[[ "$output" =~ 'Sorted by wall clock, '([0-9]+)' of them would have been received before' ]]
	[ "${BASH_REMATCH[1]}" -ge 40 ]
	[ "${lines[-1]}" = "Sorted by Tidemark's clock: none." ]
	[[ "$output" = *'BY WALL CLOCK'*'BY TIDEMARK'* ]]
	[[ "$output" != *$'\033'* ]]
}

@test "the demo fits a screen of 80 columns" {
	COLUMNS=80 run tools/demo
	[ "$status" = 0 ]
	awk 'length > 80 { print; long = 1 } END { exit long }' <<<"$output"
	# A node's name is not cut.
	grep -q '  client  *recv  ' <<<"$output"
}

@test "--keep leaves the log, which is in order, and is not when one stamp is lowered" {
	tools/demo --keep "$dir/log" >/dev/null
	run -0 "$TIDEMARK" check --json "$dir/log"
	[ "$(jq .inversions <<<"$output")" = 0 ]
	[ "$(jq .pairs <<<"$output")" -ge 90 ]
	# The last message that was received, as if received when the log began.
	first=$(jq -rs 'min_by(.hlc).hlc' "$dir/log")
	last=$(jq -rs '[.[] | select(.type == "recv")] | max_by(.hlc).hlc' "$dir/log")
	sed "s/\"hlc\":\"$last\"/\"hlc\":\"$first\"/" "$dir/log" >"$dir/lowered"
	run -1 "$TIDEMARK" check --json "$dir/lowered"
	[[ "$output" = *'"inversions":'[1-9]* ]]
}

@test "a demo that went to its end leaves nothing behind" {
	demo_start
	wait $demo
	run ! left_behind
}

@test "a demo that is interrupted leaves nothing behind, and says so" {
	demo_start
	kill -INT -- -$demo
	status=0
	wait $demo || status=$?
	[ "$status" = 130 ]
	run ! left_behind
	run ! grep 'Sorted by' "$dir/out" # it did not go on unseen to its end
	grep -q 'stopped; nothing is left behind' "$dir/err"
}

@test "a demo that is killed leaves nothing behind" {
	demo_start
	kill -KILL $demo
	run ! left_behind
	run ! grep 'Sorted by' "$dir/out"
}

@test "the demo names a program that is missing and the remedy" {
	TIDEMARK=$dir/none run -1 tools/demo
	[[ "$output" = "demo: $dir/none: no such program; run make first" ]]
}

@test "trace --log that cannot be written is refused before anything is attached" {
	run -1 "$TIDEMARK" trace --log "$dir/none/log" --pin-dir /sys/fs/bpf/demo-log
	[ "$output" = "tidemark: trace: --log $dir/none/log: No such file or directory" ]
	[ ! -e /sys/fs/bpf/demo-log ]
}

@test "trace --log on a full disk says so and ends with 1" {
	ip netns add demo-full
	ip -n demo-full link set lo up
	run -1 --separate-stderr timeout 20 "$TIDEMARK" trace -n netns:demo-full \
		--log /dev/full --pin-dir /sys/fs/bpf/demo-full --state-dir "$dir"
	ip netns del demo-full
	[[ "$stderr" = *'tidemark: trace: /dev/full: No space left on device'* ]]
	[ ! -e /sys/fs/bpf/demo-full ]
}
