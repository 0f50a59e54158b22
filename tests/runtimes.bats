#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Real container runtimes, each with one container: is it found, and called what people call it?
#
# All of them run in one world (engines.bash), with a pid namespace of its own.

load engines.bash

# The number of the network namespace of process $1 of the world.
inode_of() {
	world readlink "/proc/$1/ns/net" | tr -dc 0-9
}

setup_file() {
	BUSYBOX=$(command -v busybox) || true
	export BUSYBOX
	export TAG="tm-$$"
	export DIR="$BATS_FILE_TMPDIR"

	[ -z "$BUSYBOX" ] || engines_world pid
}

teardown_file() {
	engines_end
}

setup() {
	[ -n "$BUSYBOX" ] || skip "busybox-static is not installed"
	TIDEMARK=$(realpath "${TIDEMARK:-tidemark}")
}

# "INODE NAME" of the nodes that selectors make, or that there are.
seen() {
	local selector args=()

	for selector; do
		args+=(-n "$selector")
	done
	world "$TIDEMARK" up --state-dir "$DIR/state" "${args[@]}" 2>"$DIR/words" || {
		cat "$DIR/words"
		return 1
	}
	world "$TIDEMARK" show nodes --json | jq -r '"\(.netns) \(.node)"'
	world "$TIDEMARK" down --state-dir "$DIR/state" 2>"$DIR/words"
}

# $1 is what it should be called, $2 its process; the rest are selectors that should find it.
expect_found() {
	local name=$1 inode selector

	inode=$(inode_of "$2")
	shift 2
	[ -n "$inode" ]
	for selector in "$@"; do
		run seen "$selector"
		echo "$selector: $output"
		[ "$status" -eq 0 ]
		[ "$output" = "$inode $name" ]
	done
	run seen
	echo "all: $output"
	[ "$(grep -c "^$inode " <<<"$output")" -eq 1 ]
	grep -qx "$inode $name" <<<"$output"
}

expect_missed() {
	run seen "$1"
	echo "$output"
	[ "$status" -eq 1 ]
	[[ "$output" == *"no running container"* ]]
}

@test "a namespace of ip netns is called by its name" {
	world ip netns add blue
	run seen netns:blue
	[ "$status" -eq 0 ]
	[[ "$output" == *" blue" ]]
	seen | grep -q ' blue$'
	world ip netns del blue
	run seen
	[[ "$output" != *" blue"* ]]
}

@test "a container of runc is found by its id, and missed once deleted" {
	need runc jq
	local bundle="$DIR/runc" pid

	rootfs_make "$bundle/rootfs"
	(cd "$bundle" && runc spec)
	jq --arg group "/$TAG/runc" '.process.terminal = false | .root.readonly = true |
		.process.args = ["sleep", "100000"] | .linux.cgroupsPath = $group' \
		"$bundle/config.json" >"$bundle/new"
	mv "$bundle/new" "$bundle/config.json"
	expect_missed container:plain
	world runc run --detach --bundle "$bundle" plain </dev/null >"$DIR/runc.log" 2>&1 3>&-
	pid=$(world runc state plain | jq .pid)
	expect_found plain "$pid" container:plain plain
	world runc delete --force plain
	expect_missed container:plain
}

podman_run() {
	world podman --root "$DIR/podman" --runroot /run/podman-"$TAG" --runtime runc \
		--cgroup-manager cgroupfs --storage-driver vfs --events-backend file "$@" 3>&-
}

@test "a container of podman is found by name, id and beginning of id, outside the usual place" {
	need podman runc
	local id pid

	rootfs_make "$DIR/image"
	tar -C "$DIR/image" -c . | podman_run import - tm-box >/dev/null
	id=$(podman_run run --detach --network none --cgroup-parent "/$TAG" --name pink tm-box \
		/bin/sleep 100000)
	id=$(tail -n 1 <<<"$id")
	pid=$(podman_run inspect --format '{{.State.Pid}}' pink)
	expect_found pink "$pid" container:pink pink "container:$id" "container:${id:0:12}"
	podman_run rm --force --time 0 pink
	expect_missed container:pink
}

dockerd_start() {
	engines_dockerd --data-root "$1" --iptables=false --ip6tables=false --bridge=none
}

# The daemon itself, not the nsenter that waits for it.
dockerd_end() {
	world sh -c "kill -$1 \$(cat /run/docker.pid)"
	wait "$DOCKERD" || true
}

docker_case() {
	local data=$1 name=$2 id pid

	dockerd_start "$data"
	rootfs_make "$DIR/image"
	tar -C "$DIR/image" -c . | world docker import - tm-box >/dev/null
	id=$(world docker run --detach --network none --name "$name" tm-box /bin/sleep 100000)
	pid=$(world docker inspect --format '{{.State.Pid}}' "$name")
	expect_found "$name" "$pid" "container:$name" "$name" "container:$id" "container:${id:0:12}"
	world docker rename "$name" "re$name"
	expect_found "re$name" "$pid" "container:re$name"
	expect_missed "container:$name"
	world docker rm --force "re$name"
	expect_missed "container:re$name"
	dockerd_end TERM
}

@test "a container of docker is found by name and id, and by its new name when renamed" {
	need dockerd docker
	docker_case /var/lib/docker green
}

@test "a container of docker is found where --data-root put it" {
	need dockerd docker
	docker_case "$DIR/docker" olive
}

@test "a stopped container of docker is missed, though its file has been left as it was" {
	need dockerd docker
	local pid

	dockerd_start /var/lib/docker
	rootfs_make "$DIR/image"
	tar -C "$DIR/image" -c . | world docker import - tm-box >/dev/null
	world docker run --detach --network none --name stale tm-box /bin/sleep 100000
	pid=$(world docker inspect --format '{{.State.Pid}}' stale)
	dockerd_end KILL
	expect_found stale "$pid" container:stale
	world kill -KILL "$pid"
	world sh -c "while [ -e /proc/$pid/ns/net ] && readlink /proc/$pid/ns/net; do :; done" >/dev/null
	expect_missed container:stale
	grep -q '"Running":true' <<<"$(world sh -c 'cat /var/lib/docker/containers/*/config.v2.json')"
}
