#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Joint indexes: of many small files few are opened, and whatever happens to joints, the answer stays.

load lab

setup() {
	lab_make
	TESTS=${BUILD:-.build}/tests
	REC=$DIR/rec
}

teardown() {
	lab_clean
}

trace() { # PACKETS SEED
	"$TESTS/gen_trace" -p "$1" -f $(($1 / 8)) -s "$2" >"$DIR/t.pcap"
}

segments() { # DIR [OPTION...]
	local dir=$1

	shift
	"$TESTS/gen_segments" -d "$dir" "$@" "$DIR/t.pcap"
}

query() {
	"$TIDEMARK" query -d "$REC" "$@"
}

# The same record without any: what would be the answer if there were none.
bare() {
	rm -rf "$DIR/bare"
	cp -rl "$REC" "$DIR/bare"
	rm -f "$DIR"/bare/all/*.joint*
}

# Some questions of each kind, the answers byte for byte.
same_answers() {
	local question

	for question in 'port 53' 'host 192.0.2.77' 'not tcp and vlan' 'node web and arp' \
		'tcp port 443 and not mark 100/1' 'icmp or icmp6' 'net 10.0.0.0/8 and udp'; do
		query -w "$DIR/a.pcapng" "$question"
		"$TIDEMARK" query -d "$DIR/bare" -w "$DIR/b.pcapng" "$question"
		cmp "$DIR/a.pcapng" "$DIR/b.pcapng"
		query --flows --json "$question" >"$DIR/a.flows"
		"$TIDEMARK" query -d "$DIR/bare" --flows --json "$question" >"$DIR/b.flows"
		cmp "$DIR/a.flows" "$DIR/b.flows"
	done
}

looked_at() { # EXPRESSION... of how many segments how many were opened
	query -v --count "$@" 2>&1 >/dev/null | sed -E 's/.*: ([0-9]+) of ([0-9]+) segments.*/\1 \2/'
}

@test "of a thousand files a query opens few, and its answers are those of opening all" {
	trace 60000 21
	segments "$REC" -s 32k
	[ "$(find "$REC" -name '*.index' | wc -l)" -gt 1000 ]
	[ "$(find "$REC" -name '*.joint3' | wc -l)" -eq 1 ]
	[ "$(find "$REC" -name '*.joint*' | wc -l)" -lt 20 ]
	read -r opened all <<<"$(looked_at 'host 192.0.2.77')"
	[ "$all" -gt 1000 ]
	[ "$opened" -lt 10 ]
	read -r opened all <<<"$(looked_at 'vlan 3 and tcp port 22')"
	[ "$opened" -lt $((all / 2)) ]
	at=$(query --json --limit 20000 | tail -1 | jq -r .wall)
	read -r opened all <<<"$(looked_at --since "$at" --until "$at")"
	[ "$opened" -lt $((all / 10)) ]
	# Nothing to leave out: everything is opened, and no joint.
	run -0 query -v --count
	[[ $output == *"$all of $all segments looked at, after 0 joint indexes"* ]]
	bare
	same_answers
}

@test "of a hundred small files, 40 generated queries return the packets tshark would" {
	trace 12000 8
	segments "$REC" -s 64k
	[ "$(find "$REC" -name '*.joint2' | wc -l)" -ge 1 ]
	run -0 python3 tests/query_oracle.py "$TIDEMARK" "$DIR/t.pcap" 40 3 "$REC"
	[[ $output =~ 40\ queries,\ [0-9]+\ with\ packets,\ 0\ wrong ]]
}

@test "a file descriptor of each joint and each segment opened is all that a query opens" {
	command -v strace >/dev/null || skip 'no strace'
	trace 10000 22
	segments "$REC" -s 32k
	files=$(find "$REC" -type f | wc -l)
	strace -f -o "$DIR/calls" -e trace=openat "$TIDEMARK" query -d "$REC" --count \
		'host 192.0.2.77' >"$DIR/count"
	[ "$(cat "$DIR/count")" = 0 ]
	opened=$(grep -cE '\.(index|joint[0-9]|pcapng)"' "$DIR/calls")
	[ "$opened" -lt $((files / 10)) ]
	[ "$opened" -gt 1 ]
}

@test "a joint index that is damaged is named once, and no packet is missing" {
	trace 8000 23
	segments "$REC" -s 32k
	bare
	joint=$(find "$REC" -name '*.joint2' | sort | head -1)
	printf '\x5a\x5a\x5a' | dd of="$joint" bs=1 seek=$(($(stat -c %s "$joint") - 300)) conv=notrunc status=none
	run -0 --separate-stderr query --count 'port 53'
	[ "$output" = "$("$TIDEMARK" query -d "$DIR/bare" --count 'port 53')" ]
	[ "$(grep -c "$(basename "$joint")" <<<"$stderr")" = 1 ]
	[[ $stderr == *damaged*'record --reindex'* ]]
	"$TESTS/gen_segments" -d "$REC" -R
	run -0 --separate-stderr query --count 'port 53'
	[ -z "$stderr" ]
	[ "$(find "$REC" -name '*.joint2' | wc -l)" -gt 0 ]
	bare
	same_answers
}

# At a call that makes a file what it is, or deletes one: exactly there, as no timing could.
@test "recording killed inside 12 calls: joint indexes say nothing wrong, and no remains are left" {
	local call joined=0 killed=0

	command -v strace >/dev/null || skip 'no strace'
	trace 12000 24
	for call in renameat:{20,21,22,23} unlinkat:{95,101,103,105,108} fdatasync:{30,90} pwrite64:400; do
		run strace -f -qq -o /dev/null -e trace="${call%:*}" \
			-e inject="${call%:*}:signal=KILL:when=${call#*:}" \
			"$TESTS/gen_segments" -d "$REC" -s 32k "$DIR/t.pcap"
		[ "$status" = 0 ] || killed=$((killed + 1))
		bare
		[ "$(query --count 'udp port 53')" = \
			"$("$TIDEMARK" query -d "$DIR/bare" --count 'udp port 53')" ]
		joined=$((joined + $(find "$REC" -name '*.joint*' | wc -l)))
	done
	echo "# killed $killed times, joint indexes seen $joined" >&3
	[ "$killed" -ge 10 ]
	[ "$joined" -ge 12 ]
	segments "$REC" -s 32k -H last
	[ -z "$(find "$REC" -name '*.new')" ]
	[ "$(find "$REC" -name '*.joint1' | wc -l)" -lt 10 ]
	bare
	same_answers
}

@test "deleting by budget deletes joint indexes too, and counts them" {
	trace 30000 25
	segments "$REC" -s 32k -b 3m
	held=$(du -cb "$REC"/all/*.pcapng "$REC"/all/*.index "$REC"/all/*.joint* | tail -1 | cut -f1)
	[ "$held" -le $((3 * 1024 * 1024 + 65536)) ]
	[ "$held" -ge $((2 << 20)) ]
	segments=$(find "$REC" -name '*.index' | wc -l)
	[ "$segments" -gt 20 ]
	[ "$(find "$REC" -name '*.joint*' | wc -l)" -le $((segments / 10 + 2)) ]
	bare
	same_answers
}

@test "of an encrypted record joint indexes are too, and who may only read it makes none in the clear" {
	trace 6000 26
	head -c 32 /dev/urandom >"$DIR/key"
	chmod 600 "$DIR/key"
	segments "$REC" -s 32k -k "$DIR/key"
	[ "$(find "$REC" -name '*.joint*' | wc -l)" -ge 2 ]
	for joint in "$REC"/all/*.joint*; do
		[ "$(head -c 8 "$joint")" = TMSECRT1 ]
		run -1 grep -q TMJOINT1 "$joint"
	done
	bare
	[ "$("$TIDEMARK" query --key-file "$DIR/key" -d "$REC" --count 'udp port 53')" = \
		"$("$TIDEMARK" query --key-file "$DIR/key" -d "$DIR/bare" --count 'udp port 53')" ]
	run -0 "$TIDEMARK" query -v --key-file "$DIR/key" -d "$REC" --count 'host 192.0.2.77'
	[[ $output != *' 0 joint indexes'* ]]
	# Without the key: said once, as of segments, and not of joints.
	run -1 --separate-stderr query --count 'udp port 53'
	[[ $stderr != *joint* ]]
	# Recorded on in the clear, with joints of what is in the clear alone.
	rm "$REC"/all/*.joint*
	segments "$REC" -s 32k
	for joint in "$REC"/all/*.joint*; do
		run strings -n 20 "$joint"
		[[ $output != *"$(basename "$(find "$DIR/bare" -name '*.index' | sort | head -1)" .index)"* ]]
	done
	[ "$("$TIDEMARK" query --key-file "$DIR/key" -d "$REC" --count)" = 12000 ]
}
