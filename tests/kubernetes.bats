#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The manifest of docs/kubernetes/, without a cluster: its parts agree, and its daemon runs as it
# says, with its capabilities and mounts and no more, beside a pod that it finds.

load lab.bash
load engines.bash

setup() {
	TIDEMARK=$(realpath "${TIDEMARK:-tidemark}")
	DIR=$BATS_TEST_TMPDIR
	MANIFEST=docs/kubernetes/tidemark.yaml
	PYTHON=/usr/bin/python3
	"$PYTHON" -c 'import yaml' 2>/dev/null || skip 'python3-yaml is not installed (tools/setup)'
}

teardown() {
	[ -z "${WORLD:-}" ] || engines_end
}

judge() {
	"$PYTHON" tests/kubernetes.py "$@"
}

@test "the manifest parses and its parts refer to each other" {
	[ "$(judge "$MANIFEST")" = '6 objects' ]
}

@test "a manifest whose parts do not agree is refused" {
	local change

	for change in '0,/- name: state$/s//- name: stat/' 's/serviceAccountName: .*/serviceAccountName: no/' \
		's,^apiVersion: apps/v1,apiVersion: v1,' 's,path: /run$,path: /var/run,' \
		's/hostPID: true/hostPID: false/' '/drop:/s/ALL/SOME/'; do
		sed "$change" "$MANIFEST" >"$DIR/broken.yaml"
		! cmp -s "$MANIFEST" "$DIR/broken.yaml"
		run judge "$DIR/broken.yaml"
		echo "$change: $output"
		[ "$status" = 1 ]
	done
}

@test "its configuration is right, and one with a wrong key is not" {
	judge "$MANIFEST" "$DIR" >/dev/null
	"$TIDEMARK" run -c "$DIR/tidemark.yaml" --check-config
	sed 's/write:/wrote:/' "$DIR/tidemark.yaml" >"$DIR/wrong.yaml"
	run "$TIDEMARK" run -c "$DIR/wrong.yaml" --check-config
	[ "$status" = 2 ]
}

podman_run() {
	world podman --root /var/lib/containers/storage --runroot /run/containers/storage \
		--runtime runc --cgroup-manager cgroupfs --storage-driver vfs \
		--events-backend file "$@" 3>&-
}

pod_shown() {
	world "$TIDEMARK" show nodes --json >"$DIR/nodes" 2>/dev/null && grep -q '"kitchen"' "$DIR/nodes"
}

@test "the image is built, and its daemon finds a pod with what the manifest gives it" {
	local words

	need busybox podman runc
	export BUSYBOX TAG="tm-$$"
	BUSYBOX=$(command -v busybox)
	ENGINE_DIRS+=' /var/lib/tidemark /var/log/tidemark'
	engines_world pid
	world mkdir -p /run/tidemark /var/lib/docker/containers
	rootfs_make "$DIR/image"
	tar -C "$DIR/image" -c . | podman_run import - tm-box >/dev/null
	podman_run pod create --name kitchen --infra-image tm-box \
		--infra-command '/bin/sleep 100000' --network none --cgroup-parent "/$TAG" >/dev/null
	podman_run run --detach --pod kitchen --name cook tm-box /bin/sleep 100000 >/dev/null
	mkdir "$DIR/context" "$DIR/config"
	cp "$TIDEMARK" "$DIR/context/tidemark"
	podman_run build --isolation chroot -t tidemark -f "$PWD/docs/kubernetes/Dockerfile" \
		"$DIR/context"
	judge "$MANIFEST" "$DIR/config" >"$DIR/options"
	mapfile -t words <"$DIR/options"
	podman_run run --detach --name daemon --cgroup-parent "/$TAG" "${words[@]}"
	await 20 pod_shown || {
		podman_run logs daemon
		return 1
	}
	cat "$DIR/nodes"
	[ "$(jq -r 'select(.node == "kitchen").containers' "$DIR/nodes")" = cook ]
	podman_run stop --time 20 daemon
	[ "$(podman_run inspect --format '{{.State.ExitCode}}' daemon)" = 0 ]
	# Its log is where the manifest says.
	[ -n "$(world find /var/log/tidemark -type f)" ]
}
