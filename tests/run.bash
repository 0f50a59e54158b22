# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# For labs of the daemon: a configuration, a start that waits until it watches, questions to it.

# Variables of lab.bash and of the labs:
# shellcheck disable=SC2034,SC2154

API=127.0.0.1:9464

# The daemon runs in the lab's own world, where lo is up. Its configuration is on stdin; sets RUN.
run_start() { # ARGS...
	cat >"$DIR/run.yaml"
	run_again "$@"
}

run_again() { # ARGS...
	WORDS=$DIR/run.words
	: >"$WORDS"
	"$TIDEMARK" run -c "$DIR/run.yaml" --pin-dir "$PIN" --state-dir "$STATE" "$@" \
		2>"$WORDS" </dev/null 3>&- &
	RUN=$!
	PIDS+=("$RUN")
	await_line "$WORDS" 'watching [0-9]+ nodes'
}

run_stop() { # [SIGNAL]
	local status=0

	kill -"${1:-TERM}" "$RUN"
	wait "$RUN" || status=$?
	return "$status"
}

# A configuration that must not start: leaves status and output as `run` of bats does.
run_fails() { # ARGS...
	cat >"$DIR/run.yaml"
	run timeout 20 "$TIDEMARK" run -c "$DIR/run.yaml" --pin-dir "$PIN" --state-dir "$STATE" "$@"
}

ask() { # PATH CURL-ARGS...
	curl -sS --max-time 10 "http://$API$1" "${@:2}"
}

status_of() { # PATH CURL-ARGS...
	ask "$1" -o /dev/null -w '%{http_code}' "${@:2}"
}

metric() { # a line's beginning
	ask /metrics | awk -v want="$1" 'index($0, want " ") == 1 { print $NF }'
}
