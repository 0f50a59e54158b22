#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `tidemark merge`, `past`, `future`, `graph`: on logs of a world that two datapaths watched, each
# with half of the nodes and knowing nothing of the other: as on two hosts with all stamps stripped.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2016,SC2030,SC2031,SC2153,SC2154

load lab.bash

setup() {
	lab_make
	fixture=$BATS_TEST_DIRNAME/fixtures/two-hosts.jsonl
	north=$DIR/north.jsonl
	south=$DIR/south.jsonl
	merged=$DIR/merged.jsonl
}

teardown() {
	"$TIDEMARK" down --pin-dir "$PIN-south" --state-dir "$STATE-south" 2>/dev/null || :
	lab_clean
}

# Client and server, each in a log of its own; the server's clock two hours behind.
two_hosts() { # REQUESTS [HOST]
	node client server
	wire client server 1
	nginx_start server 80 <<<"$hello"
	trace_start -n netns:client
	local words=$DIR/south.words
	"$TIDEMARK" trace --pin-dir "$PIN-south" --state-dir "$STATE-south" --json \
		-n netns:server --skew server=-2h >"$south" 2>"$words" </dev/null 3>&- &
	local other=$!
	PIDS+=("$other")
	await_line "$words" 'watching [0-9]+ nodes'
	requests client "$1" "${2:-10.1.0.2}" 80
	trace_stop
	kill -INT "$other"
	wait "$other"
	mv "$LOG" "$north"
}

merge() {
	"$TIDEMARK" merge "$@" 2>"$DIR/words" || {
		cat "$DIR/words" >&2
		return 1
	}
}

@test "logs of two hosts between which every stamp was stripped are inverted before merging and never after (T36, T19)" {
	two_hosts 200
	[ "$(events '.cause' "$north")" = 0 ]
	[ "$(events '.cause' "$south")" = 0 ]
	run -1 --separate-stderr "$TIDEMARK" check "$north" "$south"
	[ "$(jq .inversions <<<"$output")" -ge 200 ]
	merge "$north" "$south" -o "$merged"
	check_ok "$merged"
	[ "$(jq .matched "$DIR/check.json")" -ge 400 ]
	[ "$(jq .in_band "$DIR/check.json")" = 0 ]
	[ "$(jq .unknown "$DIR/check.json")" = 0 ]
	[ "$(jq .unmatched_recv "$DIR/check.json")" = 0 ]
	[ "$(pairs "$merged")" = 400 ]
	[ "$(events '.type == "accept" and .edge == "matched"' "$merged")" = 1 ]
	[ "$(events '.type == "close" and .edge == "matched"' "$merged")" = 2 ]
	[ "$(cat "$north" "$south" | wc -l)" = "$(wc -l <"$merged")" ]
	jq -r .hlc "$merged" | LC_ALL=C sort -c
	valid "$merged"
}

@test "what was not moved is as it was, what was moved keeps its stamp, and no wall clock is touched" {
	two_hosts 20 fd00:1::2
	merge "$north" "$south" -o "$merged"
	[ "$(events '.hlc_raw' "$merged")" -ge 40 ]
	# The client's clock is ahead: nothing moves it further than its own tick, where a whole
	# exchange may take place.
	[ "$(events '.node == "client" and .hlc_raw and .hlc[:12] != .hlc_raw[:12]' "$merged")" = 0 ]
	diff <(cat "$north" "$south" | jq -cS . | sort) \
		<(jq -cS '.hlc = (.hlc_raw // .hlc) | if .hlc_last then .hlc_last = (.hlc_last_raw //
			.hlc_last) else . end | del(.hlc_raw, .hlc_last_raw, .edge, .cause, .cause_last)' \
			"$merged" | sort)
}

@test "merging again, from a pipe, from a directory and compressed give the same bytes" {
	two_hosts 20
	merge "$north" "$south" -o "$merged"
	merge "$merged" >"$DIR/again"
	cmp "$merged" "$DIR/again"
	shuf "$north" | cat - "$south" | merge --memory 1m - >"$DIR/piped"
	cmp "$merged" "$DIR/piped"
	mkdir "$DIR/logs"
	cp "$south" "$DIR/logs"
	zstd -q "$north" -o "$DIR/logs/north.jsonl.zst"
	merge "$DIR/logs" >"$DIR/compressed"
	cmp "$merged" "$DIR/compressed"
}

@test "pairs have both stamps, and bounds on latency that hold although the clocks are hours apart" {
	two_hosts 20
	merge --pairs --json "$north" "$south" >"$DIR/pairs"
	[ "$(events '.proto == "tcp" and .edge == "matched"' "$DIR/pairs")" -ge 40 ]
	[ "$(events '.sent >= .received' "$DIR/pairs")" = 0 ]
	[ "$(events '.wall_difference_ns < -7000000000000' "$DIR/pairs")" -ge 20 ]
	[ "$(events '.latency_most_ns < 0 or .latency_most_ns > 5000000000' "$DIR/pairs")" = 0 ]
	merge --pairs "$north" "$south" | grep -qE '^SENT +RECEIVED +FROM +TO'
}

@test "a cut has no receive whose send is outside, and says what was in flight (T34)" {
	two_hosts 20
	merge "$north" "$south" -o "$merged"
	local stamp
	stamp=$(jq -r 'select(.type == "send" and .node == "client") | .hlc' "$merged" | sed -n 10p)
	merge --cut "$stamp" "$north" "$south" >"$DIR/cut"
	[ "$(jq -r .hlc "$DIR/cut" | tail -n 1)" = "$stamp" ]
	[ "$(jq -r 'select(.cause) | .cause' "$DIR/cut" | sort -u | comm -23 - \
		<(jq -r .hlc "$DIR/cut" | sort -u) | wc -l)" = 0 ]
	grep -F "in flight from client to server: 1 messages" "$DIR/words"
	run -2 "$TIDEMARK" merge --cut yesterday "$north"
	[[ $output == *"--cut yesterday: neither 16 hexadecimal digits nor a time"* ]]
}

@test "the past of an answer has its request, and the future of a request its answer, and no more" {
	two_hosts 3
	merge "$north" "$south" -o "$merged"
	local asked answered
	asked=$(jq -r 'select(.type == "send" and .node == "client") | .hlc' "$merged" | sed -n 2p)
	answered=$(jq -r 'select(.type == "send" and .node == "server") | .hlc' "$merged" | sed -n 2p)
	"$TIDEMARK" past --json "$answered@server" "$north" "$south" >"$DIR/past"
	"$TIDEMARK" future --json "$asked" "$merged" >"$DIR/future"
	[ "$(events ".hlc == \"$asked\"" "$DIR/past")" = 1 ]
	[ "$(events ".hlc == \"$answered\"" "$DIR/future")" = 1 ]
	# Two requests and two answers there, the second answer not yet received.
	[ "$(events '.type == "send"' "$DIR/past")" = 4 ]
	[ "$(events '.node == "client" and .type == "recv"' "$DIR/past")" = 1 ]
	[ "$(events '.type == "send"' "$DIR/future")" = 4 ]
	[ "$(events '.type == "recv" and .node == "client"' "$DIR/future")" = 2 ]
}

@test "an event that several nodes have is not guessed, and one that none has is refused" {
	jq -c 'select(.type == "send" and .node == "web" and .proto == "tcp") | .,
		(.node = "other" | .src = "10.0.0.9:1")' "$fixture" >"$DIR/twice"
	local stamp
	stamp=$(jq -r .hlc "$DIR/twice" | head -n 1)
	run -2 "$TIDEMARK" past "$stamp" "$DIR/twice"
	[[ $output == *"2 events have it"*"$stamp@north/other, send at $DIR/twice:2"* ]]
	run -0 --separate-stderr "$TIDEMARK" past --json "$stamp@north/other" "$DIR/twice"
	[ "$(jq -r .node <<<"$output")" = other ]
	run -2 "$TIDEMARK" past 0000000000000001 "$fixture"
	[[ $output == *"no such event in these logs"* ]]
	run -2 "$TIDEMARK" past web "$fixture"
	[[ $output == *"web: not an event; write its stamp"* ]]
}

@test "a log that cannot be read, or not written, exits 2 or 1, says where, and leaves no file" {
	{ head -n 3 "$fixture"; echo '{"hlc":1}'; } >"$DIR/bad"
	run -2 "$TIDEMARK" merge "$DIR/bad" -o "$DIR/out"
	[[ $output == *"bad:4: hlc is not a string"* ]]
	[ ! -e "$DIR/out" ]
	zstd -q "$fixture" -o "$DIR/cut.jsonl.zst"
	truncate -s -20 "$DIR/cut.jsonl.zst"
	run -2 "$TIDEMARK" merge "$DIR/cut.jsonl.zst"
	[[ $output == *"cut.jsonl.zst: damaged or cut short"* ]]
	run -1 "$TIDEMARK" merge "$fixture" -o "$DIR/no/out"
	[[ $output == *"no/out: No such file"* ]]
	run -1 bash -c '"$0" merge "$1" 2>&1 >/dev/full' "$TIDEMARK" "$fixture"
	[[ $output == *"stdout: No space left on device"* ]]
	run ! compgen -G "$DIR/out*"
}

@test "a stamp that came with its message and was refused as too far ahead orders it all the same (T19)" {
	jq -c 'if .cause and .type == "recv" and .node == "db" then .hlc = "18b2a2b4c5d6ffff" |
		.hlc_last = .hlc | .rejected = .cause | del(.cause, .cause_last) else . end' \
		"$fixture" >"$DIR/refused"
	run -1 --separate-stderr "$TIDEMARK" check "$DIR/refused"
	merge "$DIR/refused" >"$merged"
	check_ok "$merged"
	[ "$(events '.rejected == .cause and .edge == "in-band" and .hlc > .cause and
		.hlc_raw == "18b2a2b4c5d6ffff"' "$merged")" = 1 ]
	# One that nobody sent moves nothing.
	jq -c 'if .rejected then .rejected = "fffffffffffffffe" | del(.seq) else . end' \
		"$DIR/refused" >"$DIR/invented"
	merge "$DIR/invented" >"$merged"
	[ "$(events '.rejected and (.hlc_raw or .cause or .edge != "unknown")' "$merged")" = 0 ]
}

@test "a receive that no stamp is high enough for is counted and said, and the merge fails" {
	jq -cn --arg wall 2026-11-21T01:53:52Z '
		{wall: $wall, proto: "tcp", src: "10.0.0.1:1", dst: "10.0.0.2:2", bytes: 10, packets: 1,
			seq: 7} as $of
		| $of + {hlc: "ffffffffffffffff", hlc_last: "ffffffffffffffff", type: "send", node: "a"},
		$of + {hlc: "18e9ec90b9b90005", hlc_last: "18e9ec90b9b90005", type: "recv", node: "b"}' \
		>"$DIR/top.jsonl"
	run -1 --separate-stderr "$TIDEMARK" merge "$DIR/top.jsonl" -o "$DIR/out"
	[[ $stderr == *'1 events belong above the stamp ffffffffffffffff'* ]]
	[ "$(wc -l <"$DIR/out")" = 2 ]
	run -1 "$TIDEMARK" check "$DIR/out"
	# One below there is room for one.
	sed 's/"hlc":"ffffffffffffffff","hlc_last":"ffffffffffffffff"/"hlc":"fffffffffffffffe"/' \
		"$DIR/top.jsonl" >"$DIR/below.jsonl"
	run -0 --separate-stderr "$TIDEMARK" merge "$DIR/below.jsonl" -o "$DIR/out"
	[ "$(events '.type == "recv" and .hlc == "ffffffffffffffff"' "$DIR/out")" = 1 ]
	run -0 "$TIDEMARK" check "$DIR/out"
}

@test "keys that this version does not know go through a merge untouched" {
	jq -c '.via = {"x": [1.50, "a,}"]} | .colour = true' "$fixture" >"$DIR/new"
	merge "$DIR/new" | jq -cS 'del(.edge)' | sort >"$DIR/after"
	diff <(jq -cS . "$DIR/new" | sort) "$DIR/after"
}

@test "a graph is well-formed in every format, and names in it are words, never markup" {
	jq -c 'if .node == "db" then .node = "</svg><script>alert(1)</script>\"&" else . end' \
		"$fixture" >"$DIR/hostile"
	for format in svg html dot shiviz; do
		"$TIDEMARK" graph --$format "$DIR/hostile" >"$DIR/g.$format"
	done
	python3 - "$DIR" <<-'END'
	import json, re, sys, html.parser, xml.etree.ElementTree as tree
	svg = tree.parse(sys.argv[1] + "/g.svg").getroot()
	names = {e.tag.split("}")[1] for e in svg.iter()}
	assert "script" not in names and {"title", "desc", "path", "circle"} <= names, names
	text = open(sys.argv[1] + "/g.html").read()
	assert text.count("<script") == 2 and text.count("</script") == 2
	assert not re.search(r"https?://(?!www.w3.org/2000/svg)", text), "loads something"
	data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S).group(1))
	assert len(data["events"]) == 16 and data["nodes"][1][0].startswith("</svg><script>")
	lines = open(sys.argv[1] + "/g.shiviz").read().split("\n")
	parser = re.compile(lines[0].replace("?<", "?P<"))
	body = "\n".join(lines[2:])
	seen, clocks = {}, []
	for m in parser.finditer(body):
	    clock = json.loads(m["clock"])
	    assert clock[m["host"]] == seen.get(m["host"], 0) + 1, "counts by one"
	    seen[m["host"]] = clock[m["host"]]
	    for host, count in clock.items():
	        assert count <= seen.get(host, 0), "nobody knows the future"
	    clocks.append(clock)
	assert len(clocks) == 16 and any(len(c) == 2 for c in clocks)
	END
	dot -Tsvg "$DIR/g.dot" >/dev/null
	[ "$(grep -c ' -> .*color="#0072b2"' "$DIR/g.dot")" = 4 ]
}

@test "what repeats is folded into one row that says how often, and --whole draws it all" {
	two_hosts 200
	"$TIDEMARK" graph "$north" "$south" >"$DIR/folded.svg"
	"$TIDEMARK" graph --whole "$north" "$south" >"$DIR/whole.svg"
	grep -qE 'the same 19[0-9] times more: [0-9]+ events' "$DIR/folded.svg"
	[ "$(grep -c '<circle' "$DIR/folded.svg")" -lt 40 ]
	[ "$(grep -c '<circle' "$DIR/whole.svg")" -ge 800 ]
	"$TIDEMARK" graph --limit 10 "$north" "$south" 2>"$DIR/words" >"$DIR/few.svg"
	grep -qE 'Not shown: [0-9]+ after' "$DIR/few.svg"
	grep -q 'are not shown; --limit' "$DIR/words"
}

@test "a folder for temporary files that is not there is named" {
	printf '%s\n' '{"hlc":"18e9ec90b9b90005","wall":"2026-11-21T01:53:52Z","node":"a","type":"node-up"}' \
		>"$DIR/one.jsonl"
	run env TMPDIR="$DIR/none" "$TIDEMARK" merge "$DIR/one.jsonl"
	[ "$status" = 1 ]
	[[ "$output" == *"$DIR/none (TMPDIR): No such file or directory"* ]]
	TMPDIR="$DIR" "$TIDEMARK" merge "$DIR/one.jsonl" | grep -q 18e9ec90b9b90005
}
