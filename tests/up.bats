#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `tidemark up`, `down`, `show`, `flows`, `doctor`: attach, look, and leave nothing behind.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash

setup() {
	lab_make
	node client server
	wire client server 1
}

teardown() {
	[ -z "${SECOND:-}" ] || "$TIDEMARK" down --pin-dir "$SECOND" --state-dir "$STATE"
	lab_clean
}

same_world() {
	world_snapshot | diff "$DIR/before" -
}

@test "down removes everything that up made, and nothing else" {
	world_snapshot >"$DIR/before"
	tm up -n netns:client -n netns:server
	objects >"$DIR/objects"
	# Maps, rings, programs for four devices, the links of sockets and processes.
	[ "$(grep -c map "$DIR/objects")" -ge 15 ]
	[ "$(grep -c prog "$DIR/objects")" -ge 10 ]
	[ "$(grep -c link "$DIR/objects")" -ge 1 ]
	run ! same_world
	run ! objects_gone "$DIR/objects"
	[ "$(objects_left "$DIR/objects" | wc -l)" = "$(wc -l <"$DIR/objects")" ]
	tm down
	await 10 same_world
	await 10 objects_gone "$DIR/objects"
	nothing_attached
	# Again: nothing to do is no failure.
	run tm down
	[ "$status" = 0 ]
	[[ $output == *'no datapath is up there'* ]]
}

@test "a trace without up leaves nothing either" {
	nginx_start server 80 <<<"$hello"
	world_snapshot >"$DIR/before"
	trace_start -n netns:client -n netns:server
	requests client 20 10.1.0.2 80
	objects >"$DIR/objects"
	[ "$(grep -c map "$DIR/objects")" -ge 15 ]
	trace_stop
	await 10 same_world
	await 10 objects_gone "$DIR/objects"
}

@test "a second up says it is already up; with another choice it is refused" {
	tm up -n netns:client
	run tm up -n netns:client
	[ "$status" = 0 ]
	[[ $output == *'already up, 1 nodes'* ]]
	run tm up
	[ "$status" = 0 ]
	run tm up -n netns:server
	[ "$status" = 1 ]
	[[ $output == *'already up, without node server'* ]]
	run tm up -i lo
	[ "$status" = 1 ]
	[ "$(tm show nodes --json | jq -r .node)" = client ]
}

# A qdisc and a filter of somebody else's, which copies and counts what it sees.
foreign_make() {
	ip -n server link add mirror type veth peer name copies
	ip -n server link set mirror up
	tc -n server qdisc add dev w1 clsact
	tc -n server filter add dev w1 ingress pref "$1" protocol ip u32 match ip dst 10.1.0.2/32 \
		action mirred egress mirror dev mirror continue
}

foreign_hits() {
	tc -s -n server filter show dev w1 ingress | sed -n 's/.* bytes \([0-9]*\) pkt.*/\1/p'
}

# At which priority: the very one that we like best, and one behind it.
foreign_survives() {
	local hits

	foreign_make "$1" || skip 'no classifiers of others on this kernel'
	udp_echo_start server 10.1.0.2 7
	world_snapshot >"$DIR/before"
	tm up -n netns:client -n netns:server
	udp_ask client 10 10.1.0.2 7
	[ "$(tm flows --json -n server | jq 'select(.proto == "udp") | .in_packets')" = 10 ]
	hits=$(foreign_hits)
	[ "$hits" -ge 10 ]
	tm down
	await 10 same_world
	udp_ask client 10 10.1.0.2 7
	[ "$(foreign_hits)" -ge $((hits + 10)) ]
}

@test "somebody else's qdisc and filters on the same device survive up and down, and still count" {
	foreign_survives 200
}

@test "somebody else's filter at the first priority is neither replaced nor starved" {
	foreign_survives 1
}

@test "a filter that somebody added to our qdisc keeps the qdisc when we go" {
	tm up -n netns:server
	tc -n server filter add dev w1 ingress pref 7 protocol ip u32 match u32 0 0 flowid 1:1
	tm down
	tc -n server qdisc show dev w1 | grep clsact
	tc -n server filter show dev w1 ingress | grep 'pref 7'
	! compgen -G "$PIN*" || false
}

@test "--attach tcx sees the same, and goes without a trace" {
	kernel_has tcx || skip 'no tcx'
	udp_echo_start server 10.1.0.2 7
	world_snapshot >"$DIR/before"
	tm up -n netns:client -n netns:server --attach tcx
	objects >"$DIR/objects"
	[ "$(tm show attachments --json | jq -rs '[.[].how] | unique | join(" ")')" = tcx ]
	trace_start
	udp_ask client 10 10.1.0.2 7
	trace_stop
	expect 20 '.type == "send"'
	[ "$(pairs)" = 20 ]
	tm down
	await 10 same_world
	await 10 objects_gone "$DIR/objects"
}

@test "--pin-dir makes a second datapath beside the first, and each sees everything" {
	SECOND=/sys/fs/bpf/second
	udp_echo_start server 10.1.0.2 7
	tm up -n netns:client -n netns:server
	"$TIDEMARK" up --pin-dir "$SECOND" --state-dir "$STATE" -n netns:server
	udp_ask client 10 10.1.0.2 7
	for pin in "$PIN" "$SECOND"; do
		[ "$("$TIDEMARK" flows --pin-dir "$pin" --json -n server |
			jq 'select(.proto == "udp") | .in_packets')" = 10 ]
	done
	"$TIDEMARK" down --pin-dir "$SECOND" --state-dir "$STATE"
	SECOND=
	udp_ask client 5 10.1.0.2 7
	[ "$(tm flows --json -n server |
		jq -s '[.[] | select(.proto == "udp") | .in_packets] | add')" = 15 ]
	tm down
	nothing_attached
}

# Must fail with one of the statuses and these words.
fails() { # WORDS COMMAND...
	run "${@:2}"
	echo "exit $status: $output"
	[ "$status" = 1 ] || [ "$status" = 77 ]
	[[ $output == *"$1"* ]]
	[[ $output == 'tidemark: '* ]]
}

# Below ours there may be the machine's own.
no_bpffs='while umount /sys/fs/bpf 2>/dev/null; do :; done'

@test "without a bpf file system it says how to mount one" {
	fails 'mount -t bpf' unshare -m sh -c \
		"$no_bpffs; '$TIDEMARK' up --state-dir '$STATE' -n netns:client"
	fails 'no bpf file system' "$TIDEMARK" up --pin-dir "$DIR/pins" --state-dir "$STATE" \
		-n netns:client
	nothing_attached
}

@test "without cgroup2 it says how to mount it, and nothing is left" {
	local umounts

	umounts=$(findmnt -nt cgroup2 -o TARGET | sed "s/.*/umount '&';/")
	fails 'mount -t cgroup2' unshare -m sh -c \
		"$umounts '$TIDEMARK' up --state-dir '$STATE' -n netns:client"
	nothing_attached
	fails 'mount -t cgroup2' unshare -m sh -c \
		"$umounts '$TIDEMARK' trace --state-dir '$STATE' -n netns:client"
	nothing_attached
}

@test "who is not root is told so, by every command, and nothing is left" {
	local binary=$DIR/tidemark command

	chmod 755 "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR"/test "$DIR"
	cp "$TIDEMARK" "$binary"
	for command in "up -n host" down "show nodes" flows doctor "trace -n host"; do
		# shellcheck disable=SC2086
		fails root setpriv --reuid 65534 --regid 65534 --clear-groups "$binary" $command
	done
	nothing_attached
}

@test "a skew that would put a clock below 1970 is refused, and changes nothing" {
	run tm up -n netns:client --skew client=-99999d
	[ "$status" -eq 2 ]
	[ ! -e /sys/fs/bpf/tidemark ]
}

@test "show prints each section as a table and as JSON, one object a line" {
	local section

	tm up -n netns:client -n db=netns:server --skew db=-2h
	for section in nodes stages counters maps attachments; do
		tm show "$section" | grep -q '^[A-Z]'
		tm show "$section" --json >"$DIR/json"
		[ "$(jq -s length "$DIR/json")" = "$(wc -l <"$DIR/json")" ]
		jq -se 'length > 0 and all(.show != null)' "$DIR/json"
		[ -z "$(tm show "$section" | awk 'length > 100')" ]
	done
	[ "$(tm show --json | jq -r .show | sort -u | wc -l)" = 5 ]
	[ "$(tm show nodes --json | jq -r 'select(.node == "db") | .skew_ns')" = -7200000000000 ]
	[ "$(tm show nodes --json | jq 'select(.node == "db") | .netns')" = \
		"$(stat -Lc %i /run/netns/server)" ]
	[ "$(tm show nodes --json | jq -r 'select(.node == "db") | .devices')" = lo,w1 ] ||
		[ "$(tm show nodes --json | jq -r 'select(.node == "db") | .devices')" = w1,lo ]
	[ "$(tm show attachments --json | jq -s length)" = 4 ]
	# The id is the kernel's: bpftool finds the map under it, with the same name.
	[ "$(bpftool -j map show id "$(tm show maps --json |
		jq 'select(.map == "flows") | .id')" | jq -r .name)" = flows ]
}

@test "bpftool map dump reads sensibly" {
	udp_echo_start server 10.1.0.2 7
	tm up -n netns:client -n netns:server
	udp_ask client 10 10.1.0.2 7
	bpftool -j map dump pinned "$PIN/nodes" >"$DIR/nodes"
	[ "$(jq -r '.[].formatted.value.name' "$DIR/nodes" | sort | xargs)" = 'client server' ]
	bpftool -j map dump pinned "$PIN/flows" >"$DIR/flows"
	[ "$(jq '[.[].formatted | select(.key.proto == 17) | .value.dir[].packets] | unique | .[]' \
		"$DIR/flows")" = 10 ]
}

flow() { # NODE FIELD
	tm flows --json -n "$1" | jq -r "select(.proto == \"tcp\") | .$2"
}

@test "flows has the state through a connection's life, who opened it, and whose process it is" {
	nginx_start server 80 <<<"$hello"
	tm up -n netns:client -n netns:server
	mkfifo "$DIR/go"
	start client python3 -u -c '
import http.client, sys
c = http.client.HTTPConnection("10.1.0.2", 80)
for _ in range(10):
    c.request("GET", "/"); c.getresponse().read()
print("asked", flush=True)
open(sys.argv[1]).read()
' "$DIR/go"
	await_line "$DIR/python3.out" asked
	for node in client server; do
		[ "$(flow "$node" state)" = established ]
		[ "$(flow "$node" retransmits)" -le 2 ] # a slow machine may really send again
		[ "$(flow "$node" admitted)" = true ]
	done
	[ "$(flow client opener)" = local ]
	[ "$(flow server opener)" = remote ]
	[ "$(flow client comm)" = python3 ]
	[ "$(flow client pid)" = "$PID" ]
	[ "$(flow client remote)" = 10.1.0.2:80 ]
	[ "$(flow server local)" = 10.1.0.2:80 ]
	[ "$(flow client local)" = "$(flow server remote)" ]
	[ "$(flow client out_bytes)" = "$(flow server in_bytes)" ]
	[ "$(flow client in_packets)" = "$(flow server out_packets)" ]
	[ "$(flow server comm)" = nginx ]
	# The worker, which serves, and not the master, which listens.
	[ "$(flow server pid)" = "$(pgrep -P "${PIDS[0]}")" ]
	echo >"$DIR/go"
	await 10 flow_closed
	[ "$(flow client out_flags | grep -o F)" = F ]
	[[ $(tm flows) == *closed* ]]
}

flow_closed() {
	[ "$(flow client state)" = closed ] && [ "$(flow server state)" = closed ]
}

@test "bytes and packets of a flow are those of the wire, headers included" {
	udp_echo_start server 10.1.0.2 7
	tm up -n netns:client -n netns:server
	udp_ask client 25 10.1.0.2 7 100
	tm flows --json -n client | jq -c 'select(.proto == "udp")' >"$DIR/flow"
	# Ethernet 14, IPv4 20, UDP 8.
	[ "$(jq '[.out_packets, .in_packets, .out_bytes, .in_bytes] | map(tostring) | join(" ")' \
		-r "$DIR/flow")" = "25 25 $((25 * 142)) $((25 * 142))" ]
	[ "$(jq -r .comm "$DIR/flow")" = python3 ]
}

@test "a refused connection is a reset flow, one without an answer stays a syn" {
	tm up -n netns:client
	in_node client curl -s --max-time 5 http://10.1.0.2:81/ || :
	[ "$(flow client state)" = reset ]
	[ "$(flow client comm)" = curl ]
	ip -n client route add blackhole 10.9.0.0/16
	ip -n client neigh add 10.1.0.77 lladdr 02:00:00:00:00:77 dev w1
	in_node client curl -s --max-time 1 http://10.1.0.77/ || :
	[ "$(tm flows --json | jq -r 'select(.remote == "10.1.0.77:80") | .state')" = syn ]
	[ "$(tm flows --json | jq -r 'select(.remote == "10.1.0.77:80") | .admitted')" = false ]
}

@test "flows --watch prints again and again, until it is interrupted" {
	udp_echo_start server 10.1.0.2 7
	tm up -n netns:client
	udp_ask client 1 10.1.0.2 7
	"$TIDEMARK" flows --pin-dir "$PIN" --json --watch=50ms >"$DIR/watch" 3>&- &
	PIDS+=($!)
	await 10 watched 3 1
	udp_ask client 1 10.1.0.2 7
	await 10 watched 5 1
	kill -INT "${PIDS[-1]}"
	wait "${PIDS[-1]}"
}

watched() { # so many lines, each of them whole
	[ "$(grep -c '"proto":"udp"' "$DIR/watch")" -ge "$1" ]
}

@test "flows and show without a datapath say what to do, and exit 1" {
	fails "tidemark up" tm flows
	fails "tidemark up" tm show
}

@test "doctor lists each feature, whether it is here, and what is used instead" {
	run --separate-stderr "$TIDEMARK" doctor --json
	[ "$status" = 0 ]
	[ "$(jq -s 'length >= 8 and all(has("feature") and has("here") and has("instead"))' \
		<<<"$output")" = true ]
	[ "$(jq -s 'all(.needed | not) or any(.here)' <<<"$output")" = true ]
	run unshare -m sh -c "$no_bpffs; '$TIDEMARK' doctor"
	[ "$status" = 1 ]
	[[ $output == *'mount -t bpf'* ]]
	nothing_attached
}

@test "devices that carry little are attached the quick way" {
	udp_echo_start server 10.1.0.2 7
	udp_ask client 20 10.1.0.2 7
	tm up -n netns:client -n netns:server
	[ "$(tm show attachments --json | jq -r .how | sort -u)" = clsact ]
}

@test "attaching to devices that carry traffic loses none of it" {
	kernel_has tcx ||
		skip 'this kernel has only clsact, whose making stops a device for a moment'
	start server python3 -u -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE: nothing is lost for want of room
s.bind(("10.1.0.2", 99))
print("bound")
n = 0
while s.recv(64) != b"end":
    n += 1
    if n == 1000:
        print("running")
print("got", n)'
	await_line "$DIR/python3.out" bound
	overflown=$(backlog_overflown)
	# One that never rests, and two that do: on a machine whose processors stand still for
	# milliseconds at times, one alone may say nothing while it is looked whether traffic runs.
	in_node client python3 -c '
import os, socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("10.1.0.2", 99))
def send(least, rest):
    n = 0
    while not os.path.exists("'"$DIR"'/attached") or n < least:
        s.send(b"x")
        n += 1
        if rest:
            time.sleep(rest)
    return n
for_us, from_us = os.pipe()
for _ in range(2):
    if not os.fork():
        os.write(from_us, b"%d\n" % send(1, 0.0002))
        os._exit(0)
n = send(20000, 0)
os.wait()
os.wait()
print(n + sum(map(int, os.read(for_us, 100).split())))
s.send(b"end")' >"$DIR/sent" &
	await_line "$DIR/python3.out" running
	tm up -n netns:client -n netns:server
	touch "$DIR/attached"
	await_line "$DIR/python3.out" got
	[ "$(tm show attachments --json | jq -r 'select(.device != "lo").how' | sort -u)" = tcx ]
	# What found no room in the queue of a processor that stood still was lost before us.
	overflown=$(($(backlog_overflown) - overflown))
	[ "$(sed -n 's/got //p' "$DIR/python3.out")" -ge $(($(cat "$DIR/sent") - overflown)) ]
}

backlog_overflown() {
	local dropped sum=0

	while read -r _ dropped _; do
		sum=$((sum + 0x$dropped))
	done </proc/net/softnet_stat
	echo $sum
}
