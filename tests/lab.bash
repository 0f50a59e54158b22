# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# For labs: nodes and wires that live and die with a test, real servers, and what the kernel holds.

bats_require_minimum_version 1.5.0

# What a test makes: nodes are removed and processes killed by lab_clean, whatever happened.
lab_make() {
	TIDEMARK=${TIDEMARK:-./tidemark}
	DIR=$BATS_TEST_TMPDIR
	STATE=$DIR/state
	PIN=${LAB_PIN:-/sys/fs/bpf/tidemark}
	PIDS=()
	NODES=()
	[ "$(id -u)" = 0 ] || skip 'not root'
	[ "$(stat -f -c %T /sys/fs/bpf)" = bpf_fs ] || skip 'no bpffs: run by tools/test'
	[ -s "$BATS_FILE_TMPDIR/handle" ] || handle_learn >"$BATS_FILE_TMPDIR/handle"
	HANDLE=$(<"$BATS_FILE_TMPDIR/handle")
}

lab_clean() {
	local pid node

	for pid in "${PIDS[@]}"; do
		kill -KILL "$pid" 2>/dev/null
		# The process group too: workers of servers.
		kill -KILL -- -"$pid" 2>/dev/null
	done
	"$TIDEMARK" down --pin-dir "$PIN" --state-dir "$STATE" 2>/dev/null
	for node in "${NODES[@]}"; do
		ip netns del "$node" 2>/dev/null
	done
	return 0
}

# The handle that filters of our datapath have, as tc writes it.
handle_learn() {
	tm up -n host 2>/dev/null
	tm show attachments --json | jq -s '.[0].handle' | xargs printf '0x%x\n'
	tm down 2>/dev/null
}

# Until a command succeeds, at most so many seconds (an emulated machine asks for more by
# TEST_PATIENCE). A pause is 20 ms.
await() {
	local end=$((${EPOCHREALTIME/./} + $1 * 1000000 * ${TEST_PATIENCE:-1}))

	shift
	until "$@" >/dev/null 2>&1; do
		((${EPOCHREALTIME/./} < end)) || {
			echo "waited in vain: $*" >&2
			return 1
		}
		read -rt 0.02 <> <(:) || :
	done
}

await_line() { # FILE PATTERN [SECONDS]
	await "${3:-10}" grep -qE -- "$2" "$1" || {
		tail -n 20 "$1" >&2
		return 1
	}
}

await_end() { # PID [SECONDS]
	await "${2:-10}" process_ended "$1"
}

process_ended() {
	local state

	# A zombie waits for its parent, which is us.
	state=$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null) || return 0
	[ "$state" = Z ]
}

# ---- nodes and wires ------------------------------------------------------------------

node() { # NAME...
	local name

	for name; do
		ip netns add "$name" && NODES+=("$name") && ip -n "$name" link set lo up || return
	done
}

# A wire between A and B, number N: A is 10.N.0.1 and fd00:N::1, B ends in 2.
wire() { # A B N
	ip link add "w$3" netns "$1" type veth peer name "w$3" netns "$2" &&
		wire_end "$1" "$3" 1 && wire_end "$2" "$3" 2
}

wire_end() {
	ip -n "$1" addr add "10.$2.0.$3/24" dev "w$2" &&
		ip -n "$1" addr add "fd00:$2::$3/64" dev "w$2" nodad &&
		ip -n "$1" link set "w$2" up
}

# With nsenter, not `ip netns exec`: that hides our bpffs and has a /sys of its own.
in_node() { # NAME COMMAND...
	nsenter --net="/run/netns/$1" -- "${@:2}"
}

# In the background, as leader of its own process group; ends with the test. Sets PID.
start() { # NAME COMMAND...
	setsid nsenter --net="/run/netns/$1" -- "${@:2}" >"$DIR/${2##*/}.out" 2>&1 </dev/null 3>&- &
	PID=$!
	PIDS+=("$PID")
}

# ---- real programs ---------------------------------------------------------------------

listens() { # NODE PORT
	[ -n "$(in_node "$1" ss -Hltn "sport = :$2")" ]
}

listens_udp() {
	[ -n "$(in_node "$1" ss -Hlun "sport = :$2")" ]
}

# nginx with one worker; further lines for its server block are read from stdin.
nginx_start() { # NODE PORT
	local dir=$DIR/nginx-$1

	mkdir -p "$dir"
	cat >"$dir/conf" <<-EOF
	worker_processes 1;
	daemon off;
	user root;
	pid $dir/pid;
	error_log $dir/error;
	events { worker_connections 4096; }
	http {
		access_log off;
		keepalive_requests 1000000;
		client_body_temp_path $dir/a; proxy_temp_path $dir/b; fastcgi_temp_path $dir/c;
		uwsgi_temp_path $dir/d; scgi_temp_path $dir/e;
		server {
			listen $2; listen [::]:$2;
			$(cat)
		}
	}
	EOF
	start "$1" nginx -e "$dir/error" -c "$dir/conf"
	await 10 listens "$1" "$2" || {
		cat "$DIR/nginx.out" "$dir/error" >&2
		return 1
	}
}

export hello='location / { return 200 "hello\n"; }'

# So many requests on one keep-alive connection.
requests() { # NODE COUNT HOST PORT
	in_node "$1" python3 - "${@:2}" <<-'EOF'
	import http.client, sys
	c = http.client.HTTPConnection(sys.argv[2], int(sys.argv[3]), timeout=20)
	for _ in range(int(sys.argv[1])):
	    c.request("GET", "/")
	    r = c.getresponse()
	    assert r.status == 200
	    r.read()
	c.close()
	EOF
}

# Datagrams answered one by one. The port must be listened on when this returns.
udp_echo_start() { # NODE ADDRESS PORT
	start "$1" python3 -c '
import socket, sys
f = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(f, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
while True:
    data, peer = s.recvfrom(65535)
    s.sendto(data, peer)
' "$2" "$3"
	await 10 listens_udp "$1" "$3"
}

udp_ask() { # NODE COUNT ADDRESS PORT [BYTES]
	in_node "$1" python3 - "${@:2}" <<-'EOF'
	import socket, sys
	count, host, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
	size = int(sys.argv[4]) if len(sys.argv) > 4 else 100
	s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
	s.settimeout(10)
	for i in range(count):
	    s.sendto(b"x" * size, (host, port))
	    assert len(s.recv(65535)) == size
	EOF
}

# ---- tidemark --------------------------------------------------------------------------

kernel_has() { # FEATURE of doctor
	"$TIDEMARK" doctor --json | jq -es --arg name "$1" 'any(.[]; .feature == $name and .here)' \
		>/dev/null
}

tm() { # COMMAND... of our datapath
	case $1 in
	up | down | trace) "$TIDEMARK" "$1" --pin-dir "$PIN" --state-dir "$STATE" "${@:2}" 3>&- ;;
	*) "$TIDEMARK" "$1" --pin-dir "$PIN" "${@:2}" 3>&- ;;
	esac
}

# Sets TRACE, LOG, WORDS. Returns when it receives.
trace_start() { # ARGS...
	LOG=$DIR/trace.jsonl
	WORDS=$DIR/trace.words
	: >"$WORDS"
	"$TIDEMARK" trace --pin-dir "$PIN" --state-dir "$STATE" --json "$@" \
		>"$LOG" 2>"$WORDS" </dev/null 3>&- &
	TRACE=$!
	PIDS+=("$TRACE")
	await_line "$WORDS" '^tidemark: trace: watching|watching [0-9]+ nodes'
}

trace_stop() { # [SIGNAL]
	local status=0

	kill -"${1:-INT}" "$TRACE"
	wait "$TRACE" || status=$?
	[ "$status" = 0 ] || {
		echo "trace: exit $status" >&2
		cat "$WORDS" >&2
	}
	return "$status"
}

# How many events there are for which a jq condition holds.
events() { # CONDITION [LOG]
	jq -n "[inputs | select($1)] | length" "${2:-$LOG}"
}

expect() { # WANT CONDITION
	local got

	got=$(events "$2")
	[ "$got" = "$1" ] || {
		echo "want $1, got $got events: $2" >&2
		jq -r '[.hlc, .node, .type, .src, .dst, .bytes, .packets] | @tsv' "$LOG" |
			head -n 40 >&2
		cat "$WORDS" >&2
		return 1
	}
}

# Without `check`: by jq alone, every recv stands above the send it names, which is there.
# Prints how many pairs it found.
pairs() { # [LOG]
	jq -rn '
	[inputs] as $all
	| (reduce ($all[] | select(.type | IN("send", "connect", "close", "retransmit"))) as $s
		({}; .[$s.src + $s.dst + $s.hlc] = $s)) as $sent
	| [$all[] | select(.type == "recv" and .cause)
		| if .hlc <= .cause then error("before its cause: \(.)") else . end
		| if .hlc <= $sent[.src + .dst + .cause].hlc
			then error("before its send: \(.)") else . end]
	| length' "${1:-$LOG}"
}

check_ok() {
	"$TIDEMARK" check "${1:-$LOG}" >"$DIR/check.json" 2>"$DIR/check.words" || {
		cat "$DIR/check.json" "$DIR/check.words" >&2
		return 1
	}
}

# Every line fits the schema that the binary prints.
valid() { # [LOG]
	"$TIDEMARK" trace --schema >"$DIR/schema.json"
	python3 - "$DIR/schema.json" "${1:-$LOG}" <<-'EOF'
	import json, sys
	from jsonschema import Draft202012Validator as Validator
	schema = json.load(open(sys.argv[1]))
	Validator.check_schema(schema)
	validator, seen, bad = Validator(schema), 0, 0
	for n, line in enumerate(open(sys.argv[2]), 1):
	    seen += 1
	    for error in validator.iter_errors(json.loads(line)):
	        bad += 1
	        print(f"{n}: {error.message}: {line}", file=sys.stderr)
	    if bad > 5:
	        break
	sys.exit(1 if bad or not seen else 0)
	EOF
}

counter() { # NAME, both directions
	tm show counters --json | jq "select(.counter == \"$1\") | .in + .out"
}

# ---- what the kernel holds -------------------------------------------------------------

# Identifiers of every object the datapath reaches: pins, what they use, what tc runs.
# Others may load programs at the same time, so the host's whole list is no use.
objects() {
	local pin

	{
		for pin in "$PIN"/*; do
			bpftool -j prog show pinned "$pin" 2>/dev/null |
				jq -r 'select(.id) | "prog \(.id)", "map \(.map_ids[]?)"'
			bpftool -j link show pinned "$pin" 2>/dev/null |
				jq -r 'select(.id) | "link \(.id)", "prog \(.prog_id)"'
			bpftool -j map show pinned "$pin" 2>/dev/null |
				jq -r 'select(.id) | "map \(.id)"'
		done
		# Rings, by id: a number, or its bytes in hex from the lowest on.
		bpftool -j map dump pinned "$PIN/events" 2>/dev/null | jq -r '
			def hex: ltrimstr("0x") | explode | reduce .[] as $c
				(0; . * 16 + if $c >= 97 then $c - 87 else $c - 48 end);
			.[] | objects | .inner_map_id // .value | if type == "array"
				then reduce (reverse[] | hex) as $byte (0; . * 256 + $byte)
				else . end | "map \(.)"'
		tc_filters | grep -oE 'tidemark_(in|out).* id [0-9]+' | sed 's/.* id /prog /'
	} | sort -u
}

# Of the objects listed in a file, those that still are. By asking for the ids alone: bpftool
# opens each object, and kernels keep a program array for ever that is opened while it dies.
objects_left() { # FILE
	python3 - <<-'EOF' | sort -u | comm -12 - "$1"
	import ctypes, os
	number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
	libc = ctypes.CDLL(None, use_errno=True)
	for kind, command in ("prog", 11), ("map", 12), ("link", 31):  # BPF_*_GET_NEXT_ID
	    at = (ctypes.c_uint32 * 4)()
	    while libc.syscall(number, command, ctypes.byref(at), 12) == 0:
	        at[0] = at[1]
	        print(kind, at[0])
	EOF
}

objects_gone() {
	[ -z "$(objects_left "$1")" ]
}

# The filters of every device of every node, and of the world itself.
tc_filters() {
	local name dev

	for name in '' "${NODES[@]}"; do
		for dev in $(ip ${name:+-n "$name"} -br link 2>/dev/null | sed 's/[@ ].*//'); do
			echo "# $name $dev"
			tc ${name:+-n "$name"} qdisc show dev "$dev" 2>/dev/null
			tc ${name:+-n "$name"} filter show dev "$dev" ingress 2>/dev/null
			tc ${name:+-n "$name"} filter show dev "$dev" egress 2>/dev/null
		done
	done
}

# Nothing of ours: told by the handle of its filters, for somebody else on this machine may
# watch all namespaces, these too.
nothing_attached() {
	local pins=("$PIN" "$PIN-starting")

	! compgen -G "${pins[0]}*" || return
	! tc_filters | grep "handle $HANDLE " || return
	# A qdisc without anybody's filter is one we forgot.
	! tc_filters | awk '/^#/ { at = $0 } /clsact/ { held[at] } /^filter/ { delete held[at] }
		END { for (at in held) print "qdisc left:", at }' | grep .
}

# Everything of ours that could be left: filters, qdiscs, pins.
world_snapshot() {
	tc_filters
	find /sys/fs/bpf -mindepth 1 | sort
}
