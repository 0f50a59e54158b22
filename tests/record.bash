# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# For labs that record: a recorder started and stopped, and packets for it. After lab.bash; TESTS is
# where the generators are.

# shellcheck disable=SC2154	# variables of lab.bash

trace_make() { # PACKETS FLOWS [ARGS...]
	"$TESTS/gen_trace" -p "$1" -f "$2" "${@:3}" >"$DIR/trace.pcap"
}

# Sets RECORDER. Returns when it receives. RECORD_IN: what it is run by, if by anything.
record_start() { # ARGS...
	: >"$DIR/record.words"
	"${RECORD_IN[@]}" "$TIDEMARK" record --pin-dir "$PIN" --state-dir "$STATE" "$@" \
		2>"$DIR/record.words" </dev/null 3>&- &
	RECORDER=$!
	PIDS+=("$RECORDER")
	await_line "$DIR/record.words" 'recording [0-9]+ nodes'
}

record_stop() {
	local status=0

	kill -TERM "$RECORDER"
	wait "$RECORDER" || status=$?
	cat "$DIR/record.words"
	return $status
}

replay() { # [ARGS...]
	in_node a "$TESTS/gen_replay" -i wa "$@" "$DIR/trace.pcap"
}

# Two nodes and a wire on which only we speak.
quiet_wire() {
	node a b
	ip link add wa netns a type veth peer name wb netns b
	for end in a b; do
		in_node "$end" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6' \
			2>/dev/null || :
		ip -n "$end" link set "w$end" mtu 2000 arp off multicast off up
	done
}
