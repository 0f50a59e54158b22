# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# For labs with container engines: a world for them to run in, images made of the host's programs.

ENGINE_DIRS='/etc/docker /var/lib/docker /var/lib/containers /var/lib/containerd'

# A world of mount and network namespaces with an empty /run, /etc/docker and
# /var/lib/{docker,containers,containerd} of its own. Whatever runs in it is a stranger to the rest
# of the machine. With `pid`, also a pid namespace: killing its first process ends every other.
# Sets WORLD, a process in it.
engines_world() { # [pid]
	local dir extra=()

	[ "${1:-}" != pid ] || extra=(--pid --fork --mount-proc)
	mkfifo "$DIR/born"
	for dir in $ENGINE_DIRS; do
		[ -d "$dir" ] || { mkdir "$dir" && echo "$dir" >>"$DIR/made"; }
	done
	# shellcheck disable=SC2016
	ENGINE_DIRS="$ENGINE_DIRS" unshare --mount --net "${extra[@]}" --propagation private sh -c '
		for dir in /run $ENGINE_DIRS; do
			mount -t tmpfs -o mode=755 tmpfs "$dir"
		done
		ip link set lo up
		echo born >"$1"
		exec "$2" sleep 2147483647
	' world "$DIR/born" "$BUSYBOX" 3>&- &
	UNSHARE=$!
	read -r _ <"$DIR/born"
	WORLD=$UNSHARE
	[ "${1:-}" != pid ] || WORLD=$(pgrep -P "$UNSHARE")
	WORLD_ENTER="${1:+--pid}"
	export UNSHARE WORLD WORLD_ENTER
}

world() {
	# shellcheck disable=SC2086
	nsenter --target "$WORLD" --mount --net $WORLD_ENTER --wd=/ -- "$@"
}

# Processes of the world, and of the containers that its engines put into cgroup $TAG.
engines_processes() {
	local ns dir

	ns=$(readlink "/proc/$WORLD/ns/mnt") && [ -n "$ns" ] || return
	for dir in /proc/[0-9]*; do
		[ "$(readlink "$dir/ns/mnt")" = "$ns" ] || grep -qs "/$TAG/" "$dir/cgroup" ||
			continue
		echo "${dir#/proc/}"
	done 2>/dev/null
}

engines_gone() {
	local pids

	mapfile -t pids < <(engines_processes | grep -vx "$WORLD")
	[ "${#pids[@]}" = 0 ] || { kill -KILL "${pids[@]}" 2>/dev/null; return 1; }
}

engines_end() {
	local end=$((SECONDS + 20))

	[ -n "${WORLD:-}" ] || return 0
	if [ -z "$WORLD_ENTER" ]; then
		until engines_gone || ((SECONDS > end)); do :; done
	fi
	kill -KILL "$WORLD"
	# The kernel ends every process of a pid namespace before it lets its first one go.
	tail --pid="$UNSHARE" -f /dev/null
	[ ! -f "$DIR/made" ] || xargs -a "$DIR/made" rmdir
	# Runtimes leave their cgroups behind in every hierarchy.
	find /sys/fs/cgroup -depth -type d -path "*/$TAG*" -exec rmdir {} + 2>/dev/null
	if find /sys/fs/cgroup -type d -path "*/$TAG*" 2>/dev/null | grep .; then
		return 1
	fi
}

need() {
	local program

	for program in "$@"; do
		command -v "$program" >/dev/null ||
			skip "$program is not installed (tools/setup --runtimes)"
	done
}

# A root directory with nothing but busybox.
rootfs_make() {
	mkdir -p "$1/bin" "$1/proc" "$1/dev" "$1/sys" "$1/tmp" "$1/etc"
	cp "$BUSYBOX" "$1/bin/busybox"
	ln -sf busybox "$1/bin/sleep"
	ln -sf busybox "$1/bin/sh"
	chmod 1777 "$1/tmp"
}

# The host's own programs, each with the libraries it needs, in a root directory.
rootfs_add() { # DIR PROGRAM...
	local dir=$1 program file

	shift
	for program; do
		program=$(command -v "$program") || return
		{
			realpath "$program"
			ldd "$program" | sed -nE 's,^\s+(.*\s)?(/[^ ]+) \(0x.*,\2,p'
		} | while read -r file; do
			mkdir -p "$dir${file%/*}"
			cp -Ln "$file" "$dir$file"
		done
		mkdir -p "$dir/usr/bin"
		[ -e "$dir/usr/bin/${program##*/}" ] ||
			ln -s "$(realpath "$program")" "$dir/usr/bin/${program##*/}"
	done
}

# Python's library, without what a server does not need.
rootfs_add_python() { # DIR
	local lib

	lib=$(/usr/bin/python3 -c 'import os; print(os.path.dirname(os.__file__))')
	mkdir -p "$1$lib"
	tar -C "$lib" --exclude=test --exclude='config-*' --exclude=idlelib --exclude=tkinter \
		--exclude=lib2to3 --exclude=ensurepip --exclude=pydoc_data --exclude=distutils \
		--exclude=unittest --exclude=dist-packages --exclude=turtledemo -c . |
		tar -C "$1$lib" -x
	ldd "$lib"/lib-dynload/*.so 2>/dev/null | sed -nE 's,^\s+(.*\s)?(/[^ ]+) \(0x.*,\2,p' |
		sort -u | while read -r lib; do
			mkdir -p "$1${lib%/*}"
			cp -Ln "$lib" "$1$lib"
		done
}

# Starts dockerd in the world; returns when it answers. Sets DOCKERD.
engines_dockerd() { # OPTION...
	local end=$((SECONDS + 60))

	world dockerd --storage-driver vfs --exec-opt native.cgroupdriver=cgroupfs \
		--cgroup-parent "/$TAG" "$@" >"$DIR/dockerd.log" 2>&1 3>&- &
	DOCKERD=$!
	until world docker version >/dev/null 2>&1; do
		if ! kill -0 "$DOCKERD" 2>/dev/null || ((SECONDS >= end)); then
			tail -n 20 "$DIR/dockerd.log"
			return 1
		fi
	done
}
