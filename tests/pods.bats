#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Pods, as podman makes them: several containers in one network namespace, which is one node with
# one clock, called by the pod.

load lab.bash
load engines.bash

setup_file() {
	local pod

	BUSYBOX=$(command -v busybox) || true
	export BUSYBOX TAG="tm-$$" DIR="$BATS_FILE_TMPDIR"
	for program in busybox podman runc; do
		command -v "$program" >/dev/null || return 0
	done
	export READY=1
	engines_world pid
	rootfs_make "$DIR/image"
	echo hello >"$DIR/image/index.html"
	tar -C "$DIR/image" -c . | podman_run import - tm-box >/dev/null
	for pod in kitchen cellar; do
		pod_make "$pod"
	done
	podman_run network inspect podman >/dev/null
}

teardown_file() {
	engines_end
}

setup() {
	need busybox podman runc
	TIDEMARK=$(realpath "${TIDEMARK:-tidemark}")
	DIR=$BATS_TEST_TMPDIR
}

teardown() {
	[ -n "${READY:-}" ] || return 0
	[ -z "${TRACE:-}" ] || trace_signal KILL || :
	[ -z "${SERVICE:-}" ] || kill -KILL "$SERVICE" 2>/dev/null || :
	world rm -f /run/podman/podman.sock
	world "$TIDEMARK" down --state-dir "$DIR/state" 2>/dev/null || :
}

# The trace itself, the only one in this pid namespace, and not the nsenter that waits for it.
trace_signal() {
	world pgrep -x tidemark | xargs -r nsenter --target "$WORLD" --pid --mount kill "-$1"
}

podman_run() {
	world podman --root /var/lib/containers/storage --runroot /run/containers/storage \
		--runtime runc --cgroup-manager cgroupfs --storage-driver vfs \
		--events-backend file "$@" 3>&-
}

# A server, and one beside it that asks others.
pod_make() { # NAME
	podman_run pod create --name "$1" --infra-image tm-box --infra-command '/bin/sleep 100000' \
		--network none --cgroup-parent "/$TAG" >/dev/null
	podman_run run --detach --pod "$1" --name "$1-web" --label team=blue \
		--label com.docker.compose.project=house --label "com.docker.compose.service=$1" \
		--label com.docker.compose.container-number=1 \
		tm-box /bin/busybox httpd -f -p 80 -h / >/dev/null
	podman_run run --detach --pod "$1" --name "$1-ask" tm-box /bin/sleep 100000 >/dev/null
}

pid_of() { # CONTAINER
	podman_run inspect --format '{{.State.Pid}}' "$1"
}

inode_of() { # CONTAINER
	world readlink "/proc/$(pid_of "$1")/ns/net" | tr -dc 0-9
}

up() { # SELECTOR...
	local selector args=()

	for selector; do
		args+=(-n "$selector")
	done
	world "$TIDEMARK" up --state-dir "$DIR/state" "${args[@]}"
	world "$TIDEMARK" show nodes --json >"$DIR/nodes"
	cat "$DIR/nodes" >&2
}

down() {
	world "$TIDEMARK" down --state-dir "$DIR/state"
}

@test "the containers of a pod are one node, called by the pod, and show names them" {
	[ "$(inode_of kitchen-web)" = "$(inode_of kitchen-ask)" ]
	up pod:kitchen
	[ "$(jq -r .node "$DIR/nodes")" = kitchen ]
	[ "$(jq -r .netns "$DIR/nodes")" = "$(inode_of kitchen-web)" ]
	# Without what holds the pod's namespaces.
	[ "$(jq -r .containers "$DIR/nodes")" = kitchen-web,kitchen-ask ]
}

@test "whichever of its containers is asked for, the node is the pod" {
	local selector

	for selector in container:kitchen-ask container:kitchen-web kitchen-web \
		"pid:$(pid_of kitchen-ask)"; do
		up "$selector"
		[ "$(jq -r '"\(.netns) \(.node)"' "$DIR/nodes")" = "$(inode_of kitchen-web) kitchen" ]
		down
	done
	up cook=pod:kitchen
	[ "$(jq -r .node "$DIR/nodes")" = cook ]
	down
	run world "$TIDEMARK" up --state-dir "$DIR/state" -n pod:kitche
	[ "$status" = 1 ]
	[[ $output == *'pod:kitche: no such container is running'* ]]
}


# The two pods, on a wire of their own.
wire_pods() {
	local kitchen cellar

	kitchen=$(pid_of kitchen-web)
	cellar=$(pid_of cellar-web)
	world nsenter --net="/proc/$kitchen/ns/net" ip link show kc >/dev/null 2>&1 && return
	world ip link add kc netns "/proc/$kitchen/ns/net" type veth \
		peer name kc netns "/proc/$cellar/ns/net"
	world nsenter --net="/proc/$kitchen/ns/net" sh -c \
		'ip addr add 10.3.0.1/24 dev kc; ip link set kc up; ip link set lo up'
	world nsenter --net="/proc/$cellar/ns/net" sh -c \
		'ip addr add 10.3.0.2/24 dev kc; ip link set kc up; ip link set lo up'
}

trace_end() {
	trace_signal INT
	wait "$TRACE"
	TRACE=
}

events() { # FILTER
	jq -s "[.[] | select($1)] | length" "$DIR/log"
}

@test "both containers of a pod tick one clock, and what pods tell each other is in order" {
	wire_pods
	world "$TIDEMARK" trace --json --state-dir "$DIR/state" -n pod:kitchen -n pod:cellar \
		--skew cellar=-2h >"$DIR/log" 2>"$DIR/words" </dev/null 3>&- &
	TRACE=$!
	await_line "$DIR/words" 'watching 2 nodes'
	for _ in 1 2 3; do
		podman_run exec kitchen-ask /bin/busybox wget -q -O - http://10.3.0.2/index.html
		podman_run exec cellar-ask /bin/busybox wget -q -O - http://10.3.0.1/index.html
	done
	trace_end
	[ "$(jq -r .node "$DIR/log" | sort -u | xargs)" = 'cellar kitchen' ]
	# What the server of the kitchen answers, and what the one beside it asks.
	[ "$(events '.node == "kitchen" and .type == "send" and .src == "10.3.0.1:80"')" -ge 3 ]
	[ "$(events '.node == "kitchen" and .type == "send" and .dst == "10.3.0.2:80"')" -ge 3 ]
	# One clock: no stamp of the node comes twice, and they come in the order of the log.
	jq -r 'select(.node == "kitchen") | .hlc' "$DIR/log" >"$DIR/stamps"
	sort -cu "$DIR/stamps"
	"$TIDEMARK" check --json "$DIR/log" >"$DIR/verdict"
	[ "$(jq .inversions "$DIR/verdict")" = 0 ]
	[ "$(jq .pairs "$DIR/verdict")" -ge 12 ]
	[ "$(jq .wall_inversions "$DIR/verdict")" -ge 3 ]
}

listening() {
	world curl -s --unix-socket /run/podman/podman.sock http://podman/_ping
}

@test "labels of podman are told by its service, and without it there are none" {
	run world "$TIDEMARK" up --state-dir "$DIR/state" -n label:team=blue
	[ "$status" = 1 ]
	[[ $output == *"label:team=blue: no such container is running"* ]]
	world mkdir -p /run/podman
	podman_run system service --time 0 unix:///run/podman/podman.sock >"$DIR/service" 2>&1 &
	SERVICE=$!
	await 20 listening
	up label:team=blue
	[ "$(jq -r .node "$DIR/nodes" | sort | xargs)" = 'cellar kitchen' ]
	down
	up compose:house/cellar
	[ "$(jq -r .node "$DIR/nodes")" = cellar ]
	down
	run world "$TIDEMARK" up --state-dir "$DIR/state" -n label:team=red
	[ "$status" = 1 ]
}

@test "a pod that comes later is waited for" {
	world "$TIDEMARK" trace --json --state-dir "$DIR/state" -n pod:attic \
		>"$DIR/log" 2>"$DIR/words" </dev/null 3>&- &
	TRACE=$!
	await_line "$DIR/words" 'pod:attic: no such container is running; waiting for it'
	await_line "$DIR/words" 'watching 0 nodes'
	pod_make attic
	await_line "$DIR/log" '"attic".*"node-up"'
	podman_run exec attic-ask /bin/busybox wget -q -O - http://127.0.0.1/index.html
	await_line "$DIR/log" '"send"'
	trace_end
	[ "$(jq -r .node "$DIR/log" | sort -u)" = attic ]
}
