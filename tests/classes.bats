#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Classes of recording that come and go while packets do.

# Variables of bats, of lab.bash and of record.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash
load record.bash
load run.bash

setup() {
	lab_make
	OUT=$DIR/record
	node a b
	wire a b 1
	udp_echo_start b 10.1.0.2 7000
}

teardown() {
	lab_clean
}

classes_are() { # NAME...
	[ "$(tm show record --json | jq -r .class | sort | xargs)" = "$*" ]
}

stored() { # CLASS
	tm show record --json | jq "select(.class == \"$1\") | .stored_packets"
}

has() { # CLASS PACKETS
	[ "$("$TIDEMARK" query -d "$OUT" --count "class $1 and udp port 7000")" = "$2" ]
}

open_files() { # CLASS
	find "$OUT/$1" -name '*.journal' | wc -l
}

sealed() { # CLASS
	[ "$(open_files "$1")" = 0 ] && [ "$(find "$OUT/$1" -name '*.index' | wc -l)" -gt 0 ]
}

descriptors() { # PATTERN
	find "/proc/$RECORDER/fd" -lname "$1" | wc -l
}

two='class "echo" { filter "port 7000"; precedence 9; cutoff no; } class "all" { cutoff no; }'
one='class "all" { cutoff no; }'

@test "a class that is taken away is sealed, and begins anew when it comes back" {
	echo "$two" >"$DIR/tm.cfg"
	record_start -d "$OUT" -n netns:b --from timemachine "$DIR/tm.cfg"
	udp_ask a 3 10.1.0.2 7000
	await 5 has echo 6
	[ "$(open_files echo)" = 1 ]
	"$TIDEMARK" record --pin-dir "$PIN" --assign 10.1.0.1:echo
	"$TIDEMARK" record --pin-dir "$PIN" --assign 10.9.0.1:all
	echo "$one" >"$DIR/tm.cfg"
	kill -HUP "$RECORDER"
	await_line "$DIR/record.words" 'reloaded, 1 classes'
	# A host that was given this class has it no more; the other keeps its own.
	await_line "$DIR/record.words" 'assignments of hosts .* have ended: 1'
	await 10 sealed echo
	await 10 classes_are all
	[ "$(descriptors "$OUT/echo/*")" = 0 ]
	has echo 6
	udp_ask a 2 10.1.0.2 7000
	await 5 bash -c "[ \$('$TIDEMARK' query -d '$OUT' --count 'class all and port 7000') = 4 ]"
	[ "$(jq -s 'map(select(.class == "echo") | .stored_packets) | add' "$OUT/stats.jsonl")" = 6 ]
	echo "$two" >"$DIR/tm.cfg"
	kill -HUP "$RECORDER"
	await_line "$DIR/record.words" 'reloaded, 2 classes'
	udp_ask a 1 10.1.0.2 7000
	await 5 has echo 8
	[ "$(stored echo)" = 2 ]
	record_stop
	[ "$(find "$OUT/echo" -name '*.index' | wc -l)" = 2 ]
	sealed all
	[ "$("$TIDEMARK" query -d "$OUT" --count 'port 7000')" = 12 ]
}

@test "what a killed recorder left of a class that is no more is kept, and then the class is sealed" {
	record_start -d "$OUT" -n netns:b --class 'echo:filter=port 7000,precedence=9' --class rest:
	udp_ask a 3 10.1.0.2 7000
	await 5 has echo 6
	"$TIDEMARK" record --pin-dir "$PIN" --assign 10.1.0.1:echo
	kill -KILL "$RECORDER"
	await_end "$RECORDER"
	udp_ask a 5 10.1.0.2 7000
	record_start -d "$OUT" -n netns:b --class rest:
	grep -q 'taking over' "$DIR/record.words"
	grep -q 'have ended: 1' "$DIR/record.words"
	await 5 has echo 16
	await 10 sealed echo
	await 10 classes_are rest
	udp_ask a 1 10.1.0.2 7000
	await 5 has rest 2
	record_stop
	has echo 16
}

@test "a class that comes back at once keeps its file open" {
	echo "$two" >"$DIR/tm.cfg"
	record_start -d "$OUT" -n netns:b --from timemachine "$DIR/tm.cfg"
	udp_ask a 3 10.1.0.2 7000
	await 5 has echo 6
	for words in "$one" "$two"; do
		echo "$words" >"$DIR/tm.cfg"
		: >"$DIR/record.words"
		kill -HUP "$RECORDER"
		await_line "$DIR/record.words" 'reloaded, '
	done
	udp_ask a 3 10.1.0.2 7000
	await 5 has echo 12
	[ "$(stored echo)" = 12 ]
	record_stop
	[ "$(find "$OUT/echo" -name '*.index' | wc -l)" = 1 ]
}

@test "the last line of statistics is of what is on disk, and all of it is root's alone" {
	mkdir "$OUT"
	touch "$OUT/stats.jsonl"
	chmod 644 "$OUT/stats.jsonl"
	record_start -d "$OUT" -n netns:b
	udp_ask a 20 10.1.0.2 7000
	record_stop
	jq -se 'last | .mem_bytes == 0 and .disk_files == 1 and .disk_bytes > 40 * 50' \
		"$OUT/stats.jsonl"
	[ "$(stat -c %a "$OUT/stats.jsonl")" = 600 ]
	[ -z "$(find "$OUT" -perm /077 -type f)" ]
}

@test "a filter names a node that is not there yet, and has it when it comes" {
	run_start <<-EOF
	nodes: [netns:b, netns:late]
	record:
	  dir: $OUT
	  classes:
	    - {name: late, filter: node late and udp, precedence: 5}
	    - {name: rest}
	EOF
	udp_ask a 2 10.1.0.2 7000
	await 5 has rest 4
	has late 0
	node late
	wire a late 2
	udp_echo_start late 10.2.0.2 7000
	await 10 bash -c "'$TIDEMARK' show nodes --json --pin-dir '$PIN' | grep -q '\"late\"'"
	# Filters are compiled again within a second of that.
	asked=0
	until [ "$("$TIDEMARK" query -d "$OUT" --count 'class late')" -ge 4 ]; do
		udp_ask a 2 10.2.0.2 7000
		[ $((asked++)) -lt 40 ]
	done
	[ "$("$TIDEMARK" query -d "$OUT" --count 'class late and not (node late and udp)')" = 0 ]
	await 5 late_are $((4 * asked))
	# From then on all of it is in that class, and nothing of it in the other.
	for class in late rest; do
		"$TIDEMARK" query -d "$OUT" --count "class $class and udp port 7000" >"$DIR/$class"
	done
	udp_ask a 3 10.2.0.2 7000
	await 5 has late $(($(<"$DIR/late") + 6))
	has rest "$(<"$DIR/rest")"
	run_stop
}

late_are() { # PACKETS
	[ "$("$TIDEMARK" query -d "$OUT" --count 'node late and udp port 7000')" = "$1" ]
}

@test "record takes what the daemon's configuration says, and a reload its classes" {
	cat >"$DIR/run.yaml" <<-EOF
	nodes: [netns:b]
	record:
	  dir: $OUT
	  cutoff: 1m
	  nodes: [b]
	  stats: 1s
	  classes:
	    - {name: echo, filter: port 7000, precedence: 3, cutoff: no}
	    - {name: rest}
	api: {listen: ["127.0.0.1:1"]}
	EOF
	record_start --config "$DIR/run.yaml"
	classes_are echo rest
	[ "$(tm show record --json | jq -c '[.class, .cutoff_bytes]' | xargs)" = \
		'[echo,null] [rest,1048576]' ]
	[ "$(tm show nodes --json | jq -r .node)" = b ]
	udp_ask a 3 10.1.0.2 7000
	await 5 has echo 6
	sed -i '/name: echo/d' "$DIR/run.yaml"
	kill -HUP "$RECORDER"
	await_line "$DIR/record.words" 'reloaded, 1 classes'
	await 10 classes_are rest
	sed -i 's/name: rest/name: re:st/' "$DIR/run.yaml"
	kill -HUP "$RECORDER"
	await_line "$DIR/record.words" 'not reloaded'
	record_stop
}

@test "the command line goes before the configuration, and what is wrong in either changes nothing" {
	cat >"$DIR/run.yaml" <<-EOF
	record: {dir: $OUT, cutoff: 1m, classes: [{name: echo, filter: port 7000}]}
	EOF
	record_start --config "$DIR/run.yaml" -d "$DIR/other" --cutoff no -n netns:b \
		--class rest:cutoff=2k
	classes_are echo rest
	[ "$(tm show record --json | jq -c '[.class, .cutoff_bytes]' | xargs)" = \
		'[rest,2048] [echo,null]' ]
	record_stop
	[ ! -e "$OUT" ]
	run -2 tm_record --config "$DIR/run.yaml" --class echo:cutoff=1k
	[[ $output == *'class echo: in the configuration and in --class'* ]]
	run -2 tm_record --config "$DIR/run.yaml" --from timemachine "$DIR/run.yaml"
	echo 'nodes: [b]' >"$DIR/run.yaml"
	run -2 tm_record --config "$DIR/run.yaml"
	[[ $output == *'run.yaml: no section record'* ]]
	run -2 tm_record --config "$DIR/none.yaml"
	[[ $output == *'none.yaml: No such file'* ]]
	[ ! -e "$OUT" ]
	nothing_attached
}

tm_record() {
	timeout 20 "$TIDEMARK" record --pin-dir "$PIN" --state-dir "$STATE" "$@" 3>&-
}

@test "a budget that a reload changes holds at once, in files that are there already" {
	files() { find "$OUT/all" -name '*.index' | wc -l; }
	full() { [ "$(files)" -ge 8 ]; }
	fits() { [ "$(cat "$OUT"/all/*.pcapng "$OUT"/all/*.index | wc -c)" -le 1500000 ]; }

	echo 'class "all" { cutoff no; filesize 256k; disk unlimited; }' >"$DIR/tm.cfg"
	record_start -d "$OUT" -n netns:b --from timemachine "$DIR/tm.cfg"
	in_node a python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(4000):
    s.sendto(bytes(700), ("10.1.0.2", 9))'
	await 20 full
	run fits
	[ "$status" = 1 ]
	echo 'class "all" { cutoff no; filesize 256k; disk 1m; }' >"$DIR/tm.cfg"
	kill -HUP "$RECORDER"
	await_line "$DIR/record.words" 'reloaded, 1 classes'
	await 10 fits
}
