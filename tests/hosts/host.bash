# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# What both machines of the lab do (tools/vm hosts): trace themselves, and hand their logs over.
#
# Output is what the machine that started us reads: FACT lines, and the log as LOG lines.

PEERS=(--peer 192.0.2.0/24 --peer 2001:db8::/64)

# Until a command succeeds, at most so many seconds: two machines have no event in common.
await() {
	local end=$((SECONDS + $1))

	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || {
			echo "waited in vain: $*" >&2
			return 1
		}
		read -rt 0.05 <> <(:) || :
	done
}

fact() { # NAME VALUE
	echo "FACT $1 $2"
}

# The whole machine is one node, called by its name. Returns when it receives.
trace_start() { # NAME
	hostname "$1"
	fact kernel "$(uname -r)"
	tidemark trace --json "${PEERS[@]}" -n "$1=host" >/root/log 2>/root/words &
	TRACE=$!
	await 60 grep -q 'watching 1 nodes' /root/words || { cat /root/words >&2; exit 1; }
}

trace_stop() {
	kill -INT "$TRACE"
	wait "$TRACE" || { cat /root/words >&2; exit 1; }
	fact lines "$(wc -lc </root/log)"
	sed 's/^/LOG /' /root/log
}
