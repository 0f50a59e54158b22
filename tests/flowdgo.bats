#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# A site that runs flowd-go: its configuration, taken as it is.
# shellcheck disable=SC2016,SC2030,SC2031

setup() {
	load lab.bash
	load marks.bash
	lab_make
	node left right
	wire left right 1
	CONF=tests/fixtures/fuzz_flowdgo
}

teardown() {
	lab_clean
}

# As YAML, for jq.
translated() { # FILE [ARGS]
	"$TIDEMARK" run --from flowd-go "$1" "${@:2}" --print-config 2>"$DIR/words" |
		python3 -c 'import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))'
}

# The daemon on node left, which is its host, with flowd-go's configuration of stdin. Sets RUN.
site_start() {
	cat >"$DIR/conf.yaml"
	nsenter --net=/run/netns/left -- "$TIDEMARK" run --from flowd-go "$DIR/conf.yaml" \
		--pin-dir "$PIN" --state-dir "$STATE" >"$DIR/run.out" 2>"$DIR/run.words" \
		</dev/null 3>&- &
	RUN=$!
	PIDS+=("$RUN")
	await_line "$DIR/run.words" 'watching [0-9]+ nodes'
}

@test "every key comes to something, or is named as meaning nothing" {
	translated "$CONF/everything.yaml" >"$DIR/ours"
	jq -e '.nodes == ["host"]
		and .api.listen == ["127.0.0.1:7777", "127.0.0.1:8080", "127.0.0.1:8081"]
		and .mark.period == "2000ms" and .mark.how == "hop-by-hop+destination"
		and .mark.fireflies == {port: 10514, collectors: ["collector.example.org:10600"],
			ongoing: true, form: "compatible", address: {map: ["10.0.0.1=192.0.2.1"],
			stun: ["stun.example.org:3478"]}}
		and .mark.pipes == [{path: "/tmp/tidemark-np", anybody: true}]
		and .mark.receive == ["[::1]:10515"]
		and .mark.relay == ["relay.example.org:10600", "[2001:db8::9]:10601"]
		and .mark.rules[0] == {proto: "tcp", src: ":5201-5299", pick: "random",
			ids: ["2/1", "2/2", "3/14"]}
		and .mark.rules[1] == {experiment: 1, activity: 2}' "$DIR/ours" ||
		{ cat "$DIR/ours"; false; } >&2
	for key in pidPath workDir maxReaders buffSize bufferSize deadline hasSyslogHeader \
		iperf3.programPath iperf3.debugMode targetInterfaces discoverInterfaces removeQdisc \
		prometheus.log netlink.protocol netlink.ext netlink.state skops.cgroupPath \
		skops.strategy; do
		grep -qE "everything.yaml:[0-9]+:[0-9]+: [a-zA-Z3.]*$key: means nothing here: " "$DIR/words" || {
			echo "no word on $key" >&2
			false
		}
	done
	"$TIDEMARK" run --from flowd-go "$CONF/everything.yaml" --check-config
}

@test "defaults are flowd-go's own" {
	translated "$CONF/defaults.yaml" >"$DIR/ours"
	[ ! -s "$DIR/words" ]
	jq -e '.api.listen == ["127.0.0.1:7777", "127.0.0.1:8080", "127.0.0.1:8081"]
		and .mark.how == "label" and .mark.period == "1000ms"
		and .mark.fireflies.ongoing == false and .mark.fireflies.form == "lean"
		and .mark.fireflies.address.stun[4] == "stun4.l.google.com:3478"
		and .mark.receive == ["127.0.0.1:10514"]
		and (.mark.pipes[0].path | endswith("/np"))
		and .mark.rules[0].ids == ["0/0", "1/1", "2/2"]' "$DIR/ours"
	translated "$CONF/storage.json" |
		jq -e '.mark.packets == false and .mark.fireflies.header == false'
	translated "$CONF/perfsonar.yaml" | jq -e '.mark.rules == [{experiment: 1, activity: 3}]'
	grep -q 'activityID: no key that flowd-go reads' "$DIR/words"
	grep -q 'plugins.api: empty, and so off' "$DIR/words"
}

@test "what is wrong is refused with its place and the remedy, and nothing is started" {
	check() { # WORDS
		cat >"$DIR/bad.yaml"
		run -2 "$TIDEMARK" run --from flowd-go "$DIR/bad.yaml" --pin-dir "$PIN" \
			--state-dir "$STATE"
		grep -qE -- "$1" <<<"$output" || {
			echo "$output" >&2
			false
		}
	}
	check 'bad.yaml:1:37: .*experimentId: not a number from 0 to 511' \
		<<<'plugins: {perfsonar: {experimentId: 512}}'
	check '2 experiments and 3 activities' <<<'plugins: {iperf3: {experimentIDs: [1, 2]}}'
	check 'not a strategy' <<<'backends: {marker: {markingStrategy: ipv4}}'
	check 'anybody could ask; give --token' <<<'plugins: {api: {bindAddress: 0.0.0.0}}'
	check 'neither true nor false' <<<'backends: {firefly: {enrich: perhaps}}'
	check 'not a mode' <<<'backends: {firefly: {enrichmentMode: fat}}'
	check 'not a list' <<<'plugins: {iperf3: {activityIDs: 7}}'
	check 'is above plugins.iperf3.maxSourcePort' \
		<<<'plugins: {iperf3: {minSourcePort: 9, maxSourcePort: 8}}'
	check 'this key was there already' <<<'{plugins: {api: {bindPort: 1, bindPort: 2}}}'
	check 'bad.yaml:2:1: did not find' <<<'plugins: {'
	[ -z "$(ls "$PIN" 2>/dev/null)" ]
	run -2 "$TIDEMARK" run --from flowd /x
	run -2 "$TIDEMARK" run --print-config
	echo sesame >"$DIR/token"
	echo 'plugins: {api: {bindAddress: 0.0.0.0}}' >"$DIR/open.yaml"
	translated "$DIR/open.yaml" --token "$DIR/token" |
		jq -e --arg token "$DIR/token" '.api == {listen: ["0.0.0.0:7777"], token: $token}'
}

@test "a pipe's flow is marked on the wire and told to the collector, as with flowd-go" {
	collector_start "$DIR/collected" fd00:1::1 10600 left
	server right 1094
	site_start <<-EOF
	plugins: {namedPipe: {pipePath: $DIR/np, maxReaders: 5}, api: {}}
	backends:
	  marker: {targetInterfaces: [w1]}
	  firefly: {sendToCollector: true, collectorAddress: "fd00:1::1", collectorPort: 10600}
	EOF
	grep -q 'maxReaders: means nothing here' "$DIR/run.words"
	echo "start tcp fd00:1::1 40001 fd00:1::2 1094 2 9" >"$DIR/np"
	await 10 eval '[ "$(mark list --json | wc -l)" = 1 ]'
	in_node left python3 -c '
import socket
c = socket.create_connection(("fd00:1::2", 1094), source_address=("fd00:1::1", 40001))
c.sendall(b"x" * 1000)
c.shutdown(socket.SHUT_WR)
c.makefile().readline()'
	await 10 has_lines "$DIR/collected" '"state":"end"' 1
	judge "$DIR/collected"
	json_of "$DIR/collected" true | jq -es 'all(.context."experiment-id" == 2)'
	[ "$(counter mark_label)" -gt 3 ]
	in_node left curl -sf http://127.0.0.1:7777/flow | jq -e '.flows | length >= 0'
	run_stop
}

@test "perfSONAR's configuration marks all, and without a marker packets stay as they are" {
	udp_echo_start right :: 4433
	site_start <<-EOF
	plugins: {perfsonar: {experimentId: 1, activityId: 2}}
	backends: {marker: {matchAll: true}}
	EOF
	udp_ask left 3 fd00:1::2 4433
	[ "$(counter mark_label)" -ge 3 ] # and its neighbours were asked for
	[ "$(mark list --json | jq -r '.experiment, .activity' | xargs)" = 'default perfSONAR' ]
	sed -i 's/^backends.*/backends: {firefly: {}}/' "$DIR/conf.yaml"
	kill -HUP "$RUN"
	await_line "$DIR/run.words" 'reloaded'
	before=$(counter mark_label)
	udp_ask left 3 fd00:1::2 4433
	[ "$(counter mark_label)" = "$before" ]
	tm flows --json | jq -se 'any(.remote == "[fd00:1::2]:4433" and .experiment == "default")'
	run_stop
}

@test "iperf3's connections get the ids in turn" {
	in_node right iperf3 -s -p 5201 >"$DIR/iperf.out" 2>&1 </dev/null 3>&- &
	PIDS+=("$!")
	await 10 listens right 5201
	site_start <<-EOF
	plugins:
	  iperf3:
	    minDestinationPort: 5201
	    maxDestinationPort: 5210
	    experimentIDs: [2, 3, 4]
	    activityIDs: [9, 9, 9]
	backends: {marker: {}}
	EOF
	in_node left iperf3 -c fd00:1::2 -p 5201 -P 2 -n 100k >/dev/null
	# One of control and two of data.
	tm flows --json | jq -se 'map(select(.remote == "[fd00:1::2]:5201") | .experiment) | sort
		== ["atlas", "cms", "lhcb"]' || { tm flows --json >&2; false; }
	run_stop
}
