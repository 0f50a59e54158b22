#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The shop of docs/compose/, run by dockerd and docker-compose and chosen as a project: real
# services, whose images know nothing of us, in causal order.
#
# No image is fetched: one is made of the host's own nginx, redis and python.

load lab.bash
load engines.bash

setup_file() {
	BUSYBOX=$(command -v busybox) || true
	export BUSYBOX TAG="tm-$$" DIR="$BATS_FILE_TMPDIR"

	for program in busybox dockerd docker docker-compose nginx redis-server /usr/bin/python3 iptables; do
		command -v "$program" >/dev/null || return 0
	done
	export READY=1
	engines_world
	engines_dockerd
	image_make
	shop_files
}

teardown_file() {
	engines_end
}

setup() {
	need busybox dockerd docker docker-compose nginx redis-server /usr/bin/python3 iptables
	TIDEMARK=$(realpath "${TIDEMARK:-tidemark}")
	DIR=$BATS_TEST_TMPDIR
	SHOP=$BATS_FILE_TMPDIR/shop
}

teardown() {
	[ -n "${READY:-}" ] || return 0
	[ -z "${TRACE:-}" ] || kill -KILL "$TRACE" 2>/dev/null || :
	world "$TIDEMARK" down --state-dir "$DIR/state" 2>/dev/null || :
	compose down --timeout 0 >/dev/null 2>&1 || :
	world sh -c 'docker ps -aq | xargs -r docker rm -f' >/dev/null 2>&1 || :
}

image_make() {
	local root=$DIR/image

	rootfs_make "$root"
	rootfs_add "$root" nginx redis-server /usr/bin/python3
	rootfs_add_python "$root"
	mkdir -p "$root/var/log/nginx" "$root/var/lib/nginx" "$root/etc/nginx"
	echo 'root:x:0:0::/:/bin/sh' >"$root/etc/passwd"
	echo 'nobody:x:65534:65534::/:/bin/sh' >>"$root/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
	echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
	tar -C "$root" -c . | world docker import \
		-c 'ENV PATH=/usr/bin:/bin' -c 'CMD ["nginx", "-g", "daemon off;"]' - tm-shop >/dev/null
	rm -rf "$root"
}

# As a user has them, with a second file for what the example has no need of.
shop_files() {
	cp -r docs/compose "$DIR/shop"
	cat >"$DIR/shop/more.yaml" <<-'EOT'
	version: "2.4"
	services:
	  beside:
	    image: tm-shop
	    network_mode: "service:app"
	    command: ["sleep", "100000"]
	    depends_on: [app]
	  alone:
	    image: tm-shop
	    network_mode: none
	    command: ["sleep", "100000"]
	  outside:
	    image: tm-shop
	    network_mode: host
	    command: ["sleep", "100000"]
	EOT
}

# -f FILE... may come first.
compose() {
	world env -C "$SHOP" NGINX_IMAGE=tm-shop PYTHON_IMAGE=tm-shop REDIS_IMAGE=tm-shop \
		docker-compose -p shop "$@" 3>&-
}

shop_open() {
	world curl -s --max-time 5 http://127.0.0.1:8080/ | grep -q visitor
}

shop_await() {
	await 60 shop_open || {
		compose logs >&2
		return 1
	}
}

# So many visits over one connection.
visit() {
	world python3 - "$1" <<-'EOF'
	import http.client, sys
	c = http.client.HTTPConnection("127.0.0.1", 8080, timeout=20)
	for _ in range(int(sys.argv[1])):
	    c.request("GET", "/")
	    r = c.getresponse()
	    assert r.status == 200 and r.read().startswith(b"visitor ")
	EOF
}

# Sets TRACE, LOG, WORDS. Returns when it receives.
shop_trace() { # ARGS...
	LOG=$DIR/trace.jsonl
	WORDS=$DIR/trace.words
	nsenter --target "$WORLD" --mount --net --wd=/ -- "$TIDEMARK" trace --json \
		--state-dir "$DIR/state" "$@" >"$LOG" 2>"$WORDS" </dev/null 3>&- &
	TRACE=$!
	await_line "$WORDS" 'watching [0-9]+ nodes'
}

shop_trace_stop() {
	kill -INT "$TRACE"
	wait "$TRACE"
	TRACE=
}

# Events of a hop: from whom, what, and the address with the port that it is known by.
hop() { # NODE TYPE FIELD PORT
	jq -s --arg n "$1" --arg t "$2" --arg f "$3" --arg p ":$4" \
		'[.[] | select(.node == $n and .type == $t and (.[$f] | tostring | endswith($p)))] |
		length' "$LOG"
}

nodes_are() { # NAME...
	local names

	names=$(jq -r 'select(.type == "node-up").node' "$LOG" | sort | xargs)
	[ "$names" = "$*" ] || { echo "nodes: $names" >&2; return 1; }
}

@test "every hop of a compose project is seen, by the names of its services, in causal order" {
	local hop

	compose up -d
	shop_await
	shop_trace -n compose:shop
	visit 50
	shop_trace_stop
	cat "$WORDS" >&2
	nodes_are app front store
	# Each visit: in at the front, to the application, to the store, and all the way back.
	for hop in 'front recv dst 80' 'front send dst 8000' 'app recv dst 8000' 'app send dst 6379' \
		'store recv dst 6379' 'store send src 6379' 'app recv src 6379' 'app send src 8000' \
		'front recv src 8000' 'front send src 80'; do
		# shellcheck disable=SC2086
		echo "$hop: $(hop $hop)" >&2
		# shellcheck disable=SC2086
		[ "$(hop $hop)" -ge 50 ]
	done
	"$TIDEMARK" check --json "$LOG" | tee /dev/stderr >"$DIR/verdict"
	[ "$(jq .inversions "$DIR/verdict")" = 0 ]
	[ "$(jq .pairs "$DIR/verdict")" -ge 200 ]
	[ "$(jq .gaps "$DIR/verdict")" = 0 ]
}

@test "a project that starts later is waited for, and its first messages are seen" {
	shop_trace -n compose:shop
	grep -q 'compose:shop: no such container is running; waiting for it' "$WORDS"
	compose up -d
	shop_await
	await 10 nodes_are app front store
	visit 5
	shop_trace_stop
	# The very first thing the application says to the store: PING, over a connection that
	# we saw begin.
	[ "$(hop app connect dst 6379)" -ge 1 ]
	[ "$(jq -r 'select(.node == "app" and .type == "send" and (.dst | endswith(":6379"))) |
		.bytes' "$LOG" | head -n 1)" = 14 ]
	"$TIDEMARK" check "$LOG"
}

@test "one service is chosen alone, and a container by its label" {
	compose up -d
	shop_await
	shop_trace -n compose:shop/store -n label:org.example.tier=application
	visit 5
	shop_trace_stop
	# By a label, a container is called what docker calls it.
	nodes_are shop_app_1 store
	[ "$(hop store recv dst 6379)" -ge 5 ]
	[ "$(hop shop_app_1 send dst 6379)" -ge 5 ]
	[ "$(jq -r .node "$LOG" | sort -u | xargs)" = 'shop_app_1 store' ]
}

@test "a label that nobody has, or another value of it, is missed by up" {
	local selector

	compose up -d store
	for selector in label:org.example.none label:com.docker.compose.service=sto compose:sho \
		compose:shop/app pod:shop; do
		run world "$TIDEMARK" up --state-dir "$DIR/state" -n "$selector"
		[ "$status" = 1 ]
		[[ $output == *"$selector: no such container is running"* ]]
		! world test -e /sys/fs/bpf/tidemark
	done
}

@test "services that share a network are one node, and each other network mode is what it is" {
	compose -f compose.yaml -f more.yaml up -d
	shop_await
	world "$TIDEMARK" up --state-dir "$DIR/state" -n compose:shop
	world "$TIDEMARK" show nodes --json >"$DIR/nodes"
	cat "$DIR/nodes" >&2
	field() { jq -r "select(.node == \"$1\").$2" "$DIR/nodes"; }
	[ "$(jq -r .node "$DIR/nodes" | sort | xargs)" = 'alone app front host store' ]
	# network_mode: service:app, and who else shares one.
	[ "$(field app containers)" = shop_app_1,shop_beside_1 ]
	[ "$(field host containers)" = shop_outside_1 ]
	[ "$(field host kind)" = host ]
	# Two networks: a node with two devices. None: one with only lo.
	[ "$(field front devices | tr , '\n' | sort | xargs)" = 'eth0 eth1 lo' ]
	[ "$(field alone devices)" = lo ]
	# The guest alone means the same node, called by whose network it is.
	world "$TIDEMARK" down --state-dir "$DIR/state"
	world "$TIDEMARK" up --state-dir "$DIR/state" -n compose:shop/beside
	[ "$(world "$TIDEMARK" show nodes --json | jq -r .node)" = app ]
}

@test "the second container of a service is SERVICE-2" {
	compose up -d --scale app=2 app
	world "$TIDEMARK" up --state-dir "$DIR/state" -n compose:shop
	[ "$(world "$TIDEMARK" show nodes --json | jq -r .node | sort | xargs)" = 'app app-2 store' ]
}
