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

PEERS=(--peer 10.0.0.0/8 --peer fd00::/16)

# Both hosts, with their wall clocks hours apart.
hosts() {
	host_start a --skew a=+3s "${PEERS[@]}" "$@"
	host_start b --skew b=-2h "${PEERS[@]}" "$@"
}

# So many pairs at least, no inversion, and every line as the schema says.
ordered() { # PAIRS
	check_ok
	[ "$(jq .pairs "$DIR/check.json")" -ge "$1" ] || {
		cat "$DIR/check.json" >&2
		return 1
	}
	[ "$(jq .inversions "$DIR/check.json")" = 0 ]
}

# Where not everything can be stamped, too large datagrams above all: stamps that came are above
# those they name, and once merged all are.
merged_ordered() { # PAIRS
	[ "$(pairs)" -gt 0 ] || return
	"$TIDEMARK" merge -o "$DIR/all.jsonl" "$LOG" || return
	LOG=$DIR/all.jsonl
	ordered "$1"
}

# The same with the wall clock alone would be wrong in more than so many percent.
wall_wrong() { # PERCENT
	jq -e ".wall_inversions * 100 > .pairs * $1" "$DIR/check.json"
}

# Datagrams of every size from 0, each answered, and each compared byte for byte.
udp_sizes() { # NODE ADDRESS PORT MOST STEP
	in_node "$1" python3 - "${@:2}" <<-'EOF2'
	import random, socket, sys
	host, port, most, step = sys.argv[1], *map(int, sys.argv[2:5])
	s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
	s.settimeout(10)
	s.connect((host, port))
	for n in range(0, most + 1, step):
	    data = random.Random(n).randbytes(n)
	    s.send(data)
	    got = s.recv(65535)
	    assert got == data, (n, len(got))
	print("same", most // step + 1)
	EOF2
}

# A server that sends back what it gets, and one who sends and compares.
tcp_echo_start() { # NODE PORT
	start "$1" python3 -c '
import socket, sys, threading
def echo(c):
    while True:
        data = c.recv(1 << 16)
        if not data:
            break
        c.sendall(data)
    c.close()
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    threading.Thread(target=echo, args=(s.accept()[0],)).start()
' "$2"
	await 10 listens "$1" "$2"
}

tcp_same() { # NODE ADDRESS PORT BYTES [MESSAGES]
	in_node "$1" python3 - "${@:2}" <<-'EOF2'
	import random, socket, sys, threading
	host, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
	c = socket.create_connection((host, port), timeout=60)
	for i in range(int(sys.argv[4]) if len(sys.argv) > 4 else 1):
	    data = random.Random(i).randbytes(size)
	    t = threading.Thread(target=c.sendall, args=(data,))
	    t.start()
	    got = bytearray()
	    while len(got) < size:
	        part = c.recv(1 << 20)
	        assert part, "closed"
	        got += part
	    t.join()
	    assert got == data
	EOF2
}

# a and b, and between them a program for a wire.
faulty() { # MODE
	local node

	node mid
	ip link add w1 netns a type veth peer name wa netns mid
	ip link add w1 netns b type veth peer name wb netns mid
	wire_end a 1 1
	wire_end b 1 2
	for node in a b; do
		offload_off "$node" w1
	done
	for node in wa wb; do
		in_node mid sysctl -qw "net.ipv6.conf.$node.disable_ipv6=1"
		ip -n mid link set "$node" up
		offload_off mid "$node"
	done
	faulty_start mid wa wb "$1"
}
