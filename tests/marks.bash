# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# For labs of marks: the daemon with a section `mark`, collectors, servers, captures.
# shellcheck disable=SC2016,SC2154

# The daemon with this section `mark` (stdin), nodes left and right, an API. Sets RUN.
run_start() {
	{
		printf 'nodes: [netns:left, netns:right]\napi: {listen: ["unix:%s"]}\nmark:\n' \
			"$DIR/api"
		sed 's/^/  /'
	} >"$DIR/run.yaml"
	"$TIDEMARK" run -c "$DIR/run.yaml" --pin-dir "$PIN" --state-dir "$STATE" \
		>"$DIR/run.out" 2>"$DIR/run.words" </dev/null 3>&- &
	RUN=$!
	PIDS+=("$RUN")
	await_line "$DIR/run.words" 'watching [0-9]+ nodes'
}

run_stop() {
	local status=0

	kill -TERM "$RUN"
	wait "$RUN" || status=$?
	[ "$status" = 0 ] || cat "$DIR/run.words" >&2
	return "$status"
}

api() { # METHOD PATH [CURL ARGS]
	curl -s --unix-socket "$DIR/api" -X "$1" "http://tidemark$2" "${@:3}"
}

# In the world, which is where the daemon is, or in a node.
collector_start() { # FILE ADDRESS PORT [NODE]
	local where=()

	[ -z "${4:-}" ] || where=(nsenter --net="/run/netns/$4" --)
	"${where[@]}" python3 tests/firefly.py listen "$1" "$2" "$3" </dev/null >&2 3>&- &
	PIDS+=("$!")
	await 10 udp_bound "$3" "${where[@]}"
}

udp_bound() { # PORT [COMMAND...]
	[ -n "$("${@:2}" ss -Hlun "sport = :$1")" ]
}

lines() { # FILE PATTERN
	grep -cE -- "$2" "$1"
}

has_lines() { # FILE PATTERN COUNT
	[ "$(lines "$1" "$2")" -ge "$3" ]
}

judge() { # FILE...
	python3 tests/firefly.py judge tests/fixtures/firefly.schema.json "$@"
}

mark() { # ARGS
	"$TIDEMARK" mark "$@" --pin-dir "$PIN"
}

json_of() { # FILE CONDITION
	sed 's/^[^{]*//' "$1" | jq -c "select($2)"
}

server() { # NODE PORT
	start "$1" python3 -c '
import socket, sys, threading
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True,
                         backlog=4096)
def serve(c):
    n = 0
    while (data := c.recv(65536)):
        n += len(data)
    c.sendall(b"%d\n" % n)
    c.close()
while True:
    serve(s.accept()[0])
' "$2"
	await 10 listens "$1" "$2"
}

# So many connections, one after the other, each of so many bytes.
connect() { # NODE HOST PORT COUNT BYTES
	in_node "$1" python3 - "${@:2}" <<-'PY'
	import socket, sys
	host, port, count, size = sys.argv[1], *map(int, sys.argv[2:5])
	for _ in range(count):
	    c = socket.create_connection((host, port), timeout=20)
	    c.sendall(b"x" * size)
	    c.shutdown(socket.SHUT_WR)
	    assert c.makefile().readline() == "%d\n" % size
	    c.close()
	PY
}
