#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Real container runtimes, each with one container: is it found, and called what people call it?
#
# All of them run in one world of mount, pid and network namespaces with its own empty /run,
# /etc/docker and /var/lib/{docker,containers,containerd}. Killing its first process ends every
# other in it.

world() {
	nsenter --target "$WORLD" --mount --net --pid --wd=/ -- "$@"
}

need() {
	local program

	for program in "$@"; do
		command -v "$program" >/dev/null || skip "$program is not installed"
	done
}

# A root directory with nothing but busybox.
rootfs_make() {
	mkdir -p "$1/bin" "$1/proc" "$1/dev" "$1/sys" "$1/tmp" "$1/etc"
	cp "$BUSYBOX" "$1/bin/busybox"
	ln -sf busybox "$1/bin/sleep"
	ln -sf busybox "$1/bin/sh"
}

# The number of the network namespace of process $1 of the world.
inode_of() {
	world readlink "/proc/$1/ns/net" | tr -dc 0-9
}

# Asks until dockerd, process $1, answers; gives up when it has died or a minute has passed.
await_dockerd() {
	local end=$((SECONDS + 60))

	until world docker version >/dev/null 2>&1; do
		kill -0 "$1" 2>/dev/null || return 1
		((SECONDS < end)) || return 1
	done
}

setup_file() {
	BUSYBOX=$(command -v busybox) || true
	export BUSYBOX
	export TAG="tm-$$"
	export DIR="$BATS_FILE_TMPDIR"
	local dir

	[ -n "$BUSYBOX" ] || return 0
	mkfifo "$DIR/born"
	for dir in /etc/docker /var/lib/docker /var/lib/containers /var/lib/containerd; do
		[ -d "$dir" ] || { mkdir "$dir" && echo "$dir" >>"$DIR/made"; }
	done
	# shellcheck disable=SC2016
	unshare --mount --net --pid --fork --mount-proc --propagation private sh -c '
		for dir in /run /etc/docker /var/lib/docker /var/lib/containers /var/lib/containerd; do
			mount -t tmpfs -o mode=755 tmpfs "$dir"
		done
		ip link set lo up
		echo born >"$1"
		exec "$2" sh -c "while :; do sleep 1000; done"
	' world "$DIR/born" "$BUSYBOX" 3>&- &
	read -r _ <"$DIR/born"
	UNSHARE=$!
	WORLD=$(pgrep -P "$UNSHARE")
	export UNSHARE WORLD
}

teardown_file() {
	[ -n "$WORLD" ] || return 0
	kill -KILL "$WORLD"
	# The kernel ends every process of the world before it lets its first one go.
	tail --pid="$UNSHARE" -f /dev/null
	[ ! -f "$DIR/made" ] || xargs -a "$DIR/made" rmdir
	# Runtimes leave their cgroups behind in every hierarchy.
	find /sys/fs/cgroup -depth -type d -path "*/$TAG*" -exec rmdir {} + 2>/dev/null
	if find /sys/fs/cgroup -type d -path "*/$TAG*" 2>/dev/null | grep .; then
		return 1
	fi
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
	world dockerd --data-root "$1" --storage-driver vfs --exec-opt native.cgroupdriver=cgroupfs \
		--iptables=false --ip6tables=false --bridge=none --cgroup-parent "/$TAG" \
		>"$DIR/dockerd.log" 2>&1 3>&- &
	DOCKERD=$!
	await_dockerd "$DOCKERD"
}

# The daemon itself, not the nsenter that waits for it.
dockerd_end() {
	world sh -c "kill -$1 \$(cat /run/docker.pid)"
	wait "$DOCKERD" || true
}

docker_case() {
	local data=$1 name=$2 id pid

	dockerd_start "$data" || {
		tail -n 20 "$DIR/dockerd.log"
		return 1
	}
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
