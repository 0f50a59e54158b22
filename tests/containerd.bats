#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Containers of containerd, as Kubernetes and nerdctl make them: their labels are what it says.

# Variables of bats and of engines.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash
load engines.bash

setup_file() {
	BUSYBOX=$(command -v busybox) || true
	export BUSYBOX TAG="tm-$$" DIR="$BATS_FILE_TMPDIR"
	for program in busybox containerd ctr runc; do
		command -v "$program" >/dev/null || return 0
	done
	export READY=1
	engines_world pid
	rootfs_make "$DIR/root"
	world containerd --log-level error >"$DIR/containerd.log" 2>&1 3>&- &
	await 60 answers
	# A pod as the kubelet has it made: what holds its namespaces has the pod's labels.
	task k8s.io sandbox-of-web app=web tier=front io.kubernetes.pod.name=web-0 \
		io.kubernetes.pod.namespace=shop io.cri-containerd.kind=sandbox
	task k8s.io sandbox-of-db app=db io.kubernetes.pod.name=db-0 \
		io.kubernetes.pod.namespace=shop io.cri-containerd.kind=sandbox
	task default kitchen app=web com.docker.compose.project=house \
		com.docker.compose.service=cook com.docker.compose.container-number=1
}

teardown_file() {
	engines_end
}

setup() {
	need busybox containerd ctr runc
	TIDEMARK=$(realpath "${TIDEMARK:-tidemark}")
	DIR=$BATS_TEST_TMPDIR
}

teardown() {
	world "$TIDEMARK" down --state-dir "$DIR/state" 2>/dev/null || :
}

answers() {
	world ctr version >/dev/null 2>&1
}

# Labels given afterwards are in its database alone: `ctr run --label` writes annotations too.
task() { # NAMESPACE ID LABEL...
	world ctr -n "$1" run --detach --rootfs --cgroup "/$TAG/$2" \
		"$BATS_FILE_TMPDIR/root" "$2" /bin/sleep 100000 3>&-
	world ctr -n "$1" container label "$2" "${@:3}" >/dev/null
}

inode_of() { # NAMESPACE ID
	local pid

	pid=$(world ctr -n "$1" task ls | awk -v id="$2" '$1 == id { print $2 }')
	world readlink "/proc/$pid/ns/net" | grep -o '[0-9]*'
}

up() { # SELECTOR
	world "$TIDEMARK" up --state-dir "$DIR/state" -n "$1"
	world "$TIDEMARK" show nodes --json >"$DIR/nodes"
	cat "$DIR/nodes" >&2
}

@test "a label chooses the pods and containers that have it, each called by its pod or service" {
	up label:app=db
	[ "$(jq -r .node "$DIR/nodes")" = shop/db-0 ]
	[ "$(jq -r .netns "$DIR/nodes")" = "$(inode_of k8s.io sandbox-of-db)" ]
	world "$TIDEMARK" down --state-dir "$DIR/state"
	up label:app=web
	[ "$(jq -r .netns "$DIR/nodes" | sort)" = \
		"$(for of in 'k8s.io sandbox-of-web' 'default kitchen'; do
			# shellcheck disable=SC2086
			inode_of $of
		done | sort)" ]
	world "$TIDEMARK" down --state-dir "$DIR/state"
	up label:tier
	[ "$(jq -r .node "$DIR/nodes")" = shop/web-0 ]
	world "$TIDEMARK" down --state-dir "$DIR/state"
	run world "$TIDEMARK" up --state-dir "$DIR/state" -n label:app=cache
	[ "$status" = 1 ]
	[[ $output == *'label:app=cache: no such container is running'* ]]
}

@test "compose projects under containerd are found by their labels, pods by their names" {
	up compose:house/cook
	[ "$(jq -r '"\(.node) \(.netns)"' "$DIR/nodes")" = "cook $(inode_of default kitchen)" ]
	world "$TIDEMARK" down --state-dir "$DIR/state"
	up pod:shop/web-0
	[ "$(jq -r '"\(.node) \(.netns)"' "$DIR/nodes")" = "shop/web-0 $(inode_of k8s.io sandbox-of-web)" ]
}

@test "when it does not answer, its containers have no labels, and nobody waits long" {
	local began=$SECONDS

	mkfifo "$DIR/hold"
	world mv /run/containerd/containerd.sock /run/containerd/away
	# One that accepts and says nothing.
	world python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind("/run/containerd/containerd.sock")
s.listen(9)
print("listens", flush=True)
sys.stdin.read()' <"$DIR/hold" >"$DIR/silent" 2>&1 3>&- &
	exec {hold}>"$DIR/hold"
	await_line "$DIR/silent" listens
	run world "$TIDEMARK" up --state-dir "$DIR/state" -n label:app=web
	exec {hold}>&-
	world mv /run/containerd/away /run/containerd/containerd.sock
	[ "$status" = 1 ]
	[[ $output == *'label:app=web: no such container is running'* ]]
	[ $((SECONDS - began)) -lt 20 ]
	up label:app=db
}
