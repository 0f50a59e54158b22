#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `tidemark query` beside an independent reader: generated queries, the same packets in the same order.

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
	"$TESTS/gen_trace" -x -p "$1" -f $(($1 / 8)) -s "$2" >"$DIR/t.pcap"
}

segments() { # DIR [OPTION...]
	local dir=$1

	shift
	"$TESTS/gen_segments" -d "$dir" "$@" "$DIR/t.pcap"
}

oracle() { # QUERIES SEED DIR...
	python3 tests/query_oracle.py "$TIDEMARK" "$DIR/t.pcap" "$@"
}

@test "200 generated queries return the packets tshark would, the same bytes in the same order" {
	trace 8000 8
	segments "$REC" -s 1m
	[ "$(find "$REC" -name '*.index' | wc -l)" -gt 3 ]
	run -0 oracle 200 3 "$REC"
	echo "$output"
	[[ $output =~ 200\ queries,\ 1[0-9]+\ with\ packets,\ 0\ wrong ]]
}

@test "what the kernel noted of a file's packets answers the same queries" {
	trace 6000 22
	"$TIDEMARK" record --pin-dir "$PIN" --state-dir "$STATE" -d "$REC" -r "$DIR/t.pcap"
	run -0 oracle 60 6 "$REC"
	echo "$output"
	[[ $output =~ 60\ queries,\ [1-9][0-9]\ with\ packets,\ 0\ wrong ]]
}

@test "a record that was never sealed, and one that is compressed, answer alike" {
	trace 5000 9
	segments "$REC" -s 1m -l
	find "$REC" -name '*.journal' | grep -q .
	run -0 oracle 25 4 "$REC"
	segments "$DIR/zst" -s 1m -z
	[ "$(find "$DIR/zst" -name '*.pcapng.zst' | wc -l)" -gt 2 ]
	[ "$(find "$DIR/zst" -name '*.pcapng' | wc -l)" -eq 0 ]
	run -0 oracle 25 5 "$DIR/zst"
	zstd -dc "$(find "$DIR/zst" -name '*.zst' | head -1)" | tshark -r - -c 1
}
