# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# For labs of clocks in packets: datapaths that are strangers to each other, and wires with faults.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

# A trace as if on another host: pins, state and nodes of its own. NAME is node and host; its
# process is in HOST_PID[NAME], its log in $DIR/NAME.jsonl.
declare -gA HOST_PID

host_start() { # NAME ARGS...
	local name=$1

	HOST_PINS+=("/sys/fs/bpf/$name")
	: >"$DIR/$name.words"
	"$TIDEMARK" trace --json -n "netns:$name" --pin-dir "/sys/fs/bpf/$name" \
		--state-dir "$DIR/state-$name" "${@:2}" \
		>"$DIR/$name.jsonl" 2>"$DIR/$name.words" </dev/null 3>&- &
	HOST_PID[$name]=$!
	PIDS+=("$!")
	await_line "$DIR/$name.words" 'watching [0-9]+ nodes'
}

# Stops them all; LOG is what a person would get by `cat` and `sort`.
hosts_stop() {
	local name

	for name in "${!HOST_PID[@]}"; do
		kill -INT "${HOST_PID[$name]}"
		wait "${HOST_PID[$name]}" || {
			cat "$DIR/$name.words" >&2
			return 1
		}
	done
	HOST_PID=()
	LOG=$DIR/merged.jsonl
	for name in "${HOST_PINS[@]##*/}"; do
		cat "$DIR/$name.jsonl"
	done | sort >"$LOG"
}

hosts_clean() {
	local pin

	for pin in "${HOST_PINS[@]}"; do
		"$TIDEMARK" down --pin-dir "$pin" --state-dir "$DIR/state-${pin##*/}" 2>/dev/null
	done
	HOST_PINS=()
	return 0
}

# A counter of one host, both directions.
host_counter() { # NAME COUNTER
	"$TIDEMARK" show counters --json --pin-dir "/sys/fs/bpf/$1" |
		jq "select(.counter == \"$2\") | .in + .out"
}

# Everything computed in software and cut up before the wire: what is captured is what a cable
# would carry.
offload_off() { # NODE DEVICE
	ip netns exec "$1" ethtool -K "$2" tx off tso off gso off gro off >/dev/null
}

# A wire between two nodes that is a program: NODE has devices A and B, and every frame goes
# through it. MODE: loss, strip, reject, plain.
faulty_start() { # NODE A B MODE
	start "$1" python3 "$BATS_TEST_DIRNAME/faulty.py" "${@:2}"
	await_line "$DIR/python3.out" '^ready$'
}
