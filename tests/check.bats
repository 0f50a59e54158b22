#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `tidemark check`: exit status, the JSON object, and words that name file and line.

bats_require_minimum_version 1.5.0

setup() {
	TIDEMARK=${TIDEMARK:-./tidemark}
	fixture=$BATS_TEST_DIRNAME/fixtures/two-hosts.jsonl
	schema=$BATS_TEST_DIRNAME/../user/event.schema.json
	log=$BATS_TEST_TMPDIR/log.jsonl
}

# Standard output alone, of a command that must exit with this status; words go to $words.
check() {
	local want=$1 status=0
	shift
	words=$BATS_TEST_TMPDIR/words
	object=$("$TIDEMARK" check "$@" 2>"$words" </dev/null) || status=$?
	[ "$status" = "$want" ] || {
		echo "exit $status, want $want: $object"
		cat "$words"
		return 1
	}
}

# The fixture with its line N changed by a jq expression.
changed() {
	jq -c "if input_line_number == $1 then $2 else . end" "$fixture" >"$log"
	! cmp -s <(jq -c . "$fixture") "$log"
}

valid() {
	python3 - "$schema" "$1" <<-'END'
		import json, sys
		from jsonschema import Draft202012Validator as Validator
		schema = json.load(open(sys.argv[1]))
		Validator.check_schema(schema)
		bad = 0
		for n, line in enumerate(open(sys.argv[2]), 1):
		    for error in Validator(schema).iter_errors(json.loads(line)):
		        bad = 1
		        print(f"{sys.argv[2]}:{n}: {error.message}")
		sys.exit(bad)
	END
}

need_validator() {
	python3 -c 'from jsonschema import Draft202012Validator' 2>/dev/null ||
		skip "python3-jsonschema is not installed"
}

@test "a log in causal order exits 0 and prints one object with every count" {
	check 0 "$fixture"
	[ "$object" = '{"events":16,"pairs":4,"inversions":0,"wall_inversions":3,"unmatched_send":1,"unmatched_recv":1,"gaps":3,"in_band":4,"matched":0,"unknown":1,"ahead_p99_ns":0,"ahead_max_ns":0}' ]
	[ ! -s "$words" ]
}

@test "--json prints the same object" {
	check 0 "$fixture"
	local plain=$object
	check 0 --json "$fixture"
	[ "$object" = "$plain" ]
}

@test "an empty log is no inversion" {
	: >"$log"
	check 0 "$log"
	[ "$(jq .events <<<"$object")" = 0 ]
}

@test "the same events in two files, in reverse, or from a pipe give the same answer" {
	check 0 "$fixture"
	local whole=$object
	grep '"north"' "$fixture" | tac >"$log"
	grep '"south"' "$fixture" >"$BATS_TEST_TMPDIR/south.jsonl"
	check 0 "$BATS_TEST_TMPDIR/south.jsonl" "$log"
	[ "$object" = "$whole" ]
	[ "$("$TIDEMARK" check - <"$fixture")" = "$whole" ]
}

@test "a directory is read, compressed files of it too, and one that is cut short is named" {
	local dir=$BATS_TEST_TMPDIR/log whole

	check 0 "$fixture"
	whole=$object
	mkdir "$dir"
	grep '"north"' "$fixture" | zstd -q >"$dir/1.jsonl.zst"
	grep '"south"' "$fixture" >"$dir/2.jsonl"
	check 0 "$dir"
	[ "$object" = "$whole" ]
	check 0 "$dir/1.jsonl.zst" "$dir/2.jsonl"
	[ "$object" = "$whole" ]
	truncate -s -20 "$dir/1.jsonl.zst"
	check 2 "$dir"
	grep -F '1.jsonl.zst: damaged or cut short' "$words"
}

@test "what a merge could not say, check does not say either" {
	local flow='"proto":"udp","src":"10.1.0.1:9","dst":"10.1.0.2:7","bytes":9,"packets":1,"hash":77'

	cat >"$log" <<-END
	{"hlc":"18f3a2b4c5d60009","type":"send","host":"h","node":"a","wall":"2026-11-20T22:31:05Z",$flow}
	{"hlc":"18f3a2b4c5d60007","type":"recv","host":"g","node":"b","wall":"2026-11-20T22:31:05Z",$flow}
	END
	check 1 "$log"
	[ "$(jq -c '[.pairs, .inversions]' <<<"$object")" = '[1,1]' ]
	sed -i '2s/}$/,"edge":"unknown"}/' "$log"
	check 0 "$log"
	[ "$(jq -c '[.pairs, .unknown]' <<<"$object")" = '[0,1]' ]
}

# Datagrams that look alike, sent at these stamps (of one digit), and received above them with the
# stamps given, or without one: -.
alike() { # SENT RECEIVED
	local stamp at=0

	for stamp in $1; do
		echo "{\"hlc\":\"000000000000001$stamp\",\"type\":\"send\",\"node\":\"a\","
	done >"$DIR/heads"
	for stamp in $2; do
		at=$((at + 1))
		[ "$stamp" = - ] || stamp="\"cause\":\"000000000000001$stamp\","
		echo "{\"hlc\":\"000000000000002$at\",\"type\":\"recv\",\"node\":\"b\",${stamp#-}"
	done >>"$DIR/heads"
	sed 's|$|"wall":"2026-11-20T22:31:05Z","proto":"udp","src":"10.1.0.1:9","dst":"10.1.0.2:7","bytes":9,"packets":1,"hash":77}|' \
		"$DIR/heads" >"$log"
	check 0 "$log"
	jq -c '[.pairs, .in_band, .matched, .unknown, .unmatched_send]' <<<"$object"
	"$TIDEMARK" merge "$log" | jq -rs 'map(select(.type == "recv") | "\(.edge):\(.cause // "-" | .[-1:])")
		| join(" ")'
}

@test "of datagrams that look alike, those whose stamp came are known, and the rest only if none is missing" {
	[ "$(alike '1 2 3' '- - -')" = $'[3,0,3,0,0]\nmatched:1 matched:2 matched:3' ]
	# The second one's stamp came: the others have the sends that are left.
	[ "$(alike '1 2 3' '- 2 -')" = $'[3,1,2,0,0]\nmatched:1 in-band:2 matched:3' ]
	[ "$(alike '1 2 3' '3 - -')" = $'[3,1,2,0,0]\nin-band:3 matched:1 matched:2' ]
	# One is lost, nobody knows which.
	[ "$(alike '1 2 3' '- -')" = $'[0,0,0,2,3]\nunknown:- unknown:-' ]
	[ "$(alike '1 2 3' '1 -')" = $'[1,1,0,1,2]\nin-band:1 unknown:-' ]
	# One came twice: then the other may be of any, though there are as many as were sent.
	[ "$(alike '1 2 3' '2 2 -')" = $'[2,2,0,1,2]\nin-band:2 in-band:2 unknown:-' ]
	[ "$(alike '1 2' '1 1 -')" = $'[2,2,0,1,1]\nin-band:1 in-band:1 unknown:-' ]
	# Of one that was sent once, whatever comes is it.
	[ "$(alike '1' '1 -')" = $'[2,1,1,0,0]\nin-band:1 matched:1' ]
}

@test "a receive lowered by hand to its cause exits 1, and both ends are named with file and line" {
	changed 6 '.hlc = .cause'
	check 1 "$log"
	[ "$(jq .inversions <<<"$object")" = 1 ]
	grep -F "tidemark: check: $log:6: recv at 18b2a2b4c5d70000 of db is not after its cause: $log:5: send at 18b2a2b4c5d70000" "$words"
}

@test "a last stamp lowered by hand exits 1" {
	changed 6 '.hlc_last = .cause_last'
	check 1 "$log"
}

@test "the stamp of every message that follows another of its node, lowered to 1, exits 1" {
	local n lowered=0
	for n in 4 5 6 7 8 11 12 13 14; do
		changed "$n" '.hlc = "0000000000000001"'
		check 1 "$log"
		lowered=$((lowered + 1))
	done
	[ "$lowered" = 9 ]
}

@test "a stamp used twice by one node exits 1 and says where" {
	changed 11 '.hlc = "18b2a2b4c5d90000" | .hlc_last = .hlc'
	check 1 "$log"
	grep -F "$log:11: send at 18b2a2b4c5d90000 of web shares a stamp of this node with: $log:8: recv at 18b2a2b4c5d90000" "$words"
}

@test "only the first ten inversions are listed, and the rest counted" {
	for n in $(seq 13); do sed -n 5p "$fixture"; done >"$log"
	check 1 "$log"
	[ "$(grep -c 'shares a stamp' "$words")" = 10 ]
	grep -F "and 2 more inversions" "$words"
}

@test "wall clocks in the wrong order are counted and are no inversion" {
	changed 8 '.wall = "2026-11-20T20:00:00.000000000Z"'
	check 0 "$log"
	[ "$(jq .wall_inversions <<<"$object")" = 4 ]
}

@test "how far clocks were ahead of their own wall clock is told, as 99 % and at most (T38)" {
	local n
	for n in $(seq 100); do
		printf '{"hlc":"1800000000%02x0000","type":"send","node":"n","wall":"%s","proto":"udp","src":"10.0.0.1:1","dst":"10.0.0.2:2"}\n' \
			"$n" "$(date -u -d @1729382256 +%FT%T.600000000Z)"
	done >"$log"
	check 0 "$log"
	local first=$((0x1800000000010000 - 1729382256600000000))
	[ "$(jq .ahead_max_ns <<<"$object")" = $((first + 99 * 65536)) ]
	[ "$(jq .ahead_p99_ns <<<"$object")" = $((first + 98 * 65536)) ]
}

@test "a line that is not an object exits 2, names file and line, and prints no object" {
	{ head -16 "$fixture"; echo '{"hlc":"18b2'; } >"$log"
	check 2 "$log"
	grep -F "tidemark: check: $log:17: not a JSON object (" "$words"
	[ -z "$object" ]
}

@test "a line without a required key exits 2 and names the key" {
	changed 6 'del(.dst)'
	check 2 "$fixture" "$log"
	grep -F "tidemark: check: $log:6: no dst" "$words"
}

@test "a file that is not there, and a directory without logs, exit 2" {
	check 2 "$BATS_TEST_TMPDIR/none.jsonl"
	grep -F "none.jsonl: No such file or directory" "$words"
	mkdir "$BATS_TEST_TMPDIR/empty"
	check 2 "$BATS_TEST_TMPDIR/empty"
	grep -F "empty: no *.jsonl or *.jsonl.zst in it" "$words"
}

@test "no log, and an unknown option, exit 2" {
	check 2
	check 2 --colour "$fixture"
}

@test "--help shows an example and exits 0" {
	check 0 --help
	[[ $object == *"tidemark check web.json db.json"* ]]
}

@test "-v says in words what was found" {
	check 0 -v "$fixture"
	grep -F "0 inversions in 4 pairs; wall clocks alone would have put 3 pairs in the wrong order" "$words"
	grep -F "3 events were lost" "$words"
}

@test "a name that would steer the terminal is shown, not obeyed" {
	changed 6 '.hlc = .cause | .node = "\u001b[2Jdb"'
	check 1 "$log"
	grep -F 'of \x1b[2Jdb' "$words"
	run ! grep -q $'\x1b' "$words"
}

@test "a full disk exits 1 and says so" {
	run bash -c '"$0" check "$1" 2>&1 >/dev/full' "$TIDEMARK" "$fixture"
	[ "$status" = 1 ]
	[ "$output" = "tidemark: check: stdout: No space left on device" ]
}

@test "a reader that left exits 1 without words" {
	run bash -c 'exec 3> >(:); wait $!; "$0" check "$1" 2>&1 >&3' "$TIDEMARK" "$fixture"
	[ "$status" = 1 ]
	[ -z "$output" ]
}

@test "every line of a log with all types fits the schema" {
	need_validator
	valid "$fixture"
	[ "$(jq -r .type "$fixture" | sort -u | wc -l)" = 10 ]
}

@test "the schema refuses what a log must not have" {
	need_validator
	local n=0 change
	while read -r line change; do
		changed "$line" "$change"
		if valid "$log" >/dev/null; then
			echo "accepted: line $line with $change"
			return 1
		fi
		n=$((n + 1))
	done <<-'END'
		1 del(.netns)
		1 .src="10.0.0.1"
		3 del(.proto)
		3 .cause="18b2a2b4c5d60000"
		3 .colour="red"
		5 del(.hlc_last)
		5 del(.seq)
		5 .hlc=1
		5 .hlc="18B2A2B4C5D70000"
		5 .flags="PA"
		5 .bytes="2896"
		5 del(.pid)
		5 .wall="2026-11-20T22:31:05Z"
		6 del(.cause)
		6 .src="2001:db8::2:80"
		6 .type="receive"
		11 .seq=1
		15 del(.reason)
		15 .count=0
		16 .burst="node"
	END
	[ "$n" = 20 ]
}
