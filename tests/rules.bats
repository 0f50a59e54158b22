#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Rules of marks in the daemon's configuration: there while it is, and only its own.
# shellcheck disable=SC2016,SC2030,SC2031

setup() {
	load lab.bash
	load marks.bash
	lab_make
	node left right
	wire left right 1
}

teardown() {
	lab_clean
}

# Destinations of the rules, or - for any, sorted.
rules() {
	mark list --json | jq -r '.dst // "-"' | sort | xargs
}

reload() { # the section `mark` is stdin
	local n

	n=$(lines "$DIR/run.words" 'reloaded|refused; the' || :)
	{
		sed '/^mark:/q' "$DIR/run.yaml"
		sed 's/^/  /'
	} >"$DIR/new.yaml"
	mv "$DIR/new.yaml" "$DIR/run.yaml"
	kill -HUP "$RUN"
	await 10 has_lines "$DIR/run.words" 'reloaded|refused; the' $((n + 1))
}

@test "rules come at the start, change at a reload and go at the stop; a user's stay" {
	udp_echo_start right :: 4433
	tm up -n left
	mark add --dst 2001:db8:1::/48 --experiment 1 --activity 1
	run_start <<-EOF
	rules:
	  - {dst: "fd00:1::2", proto: udp, experiment: atlas, activity: 9}
	  - {dst: "2001:db8:2::/48", experiment: cms, activity: 14, how: hop-by-hop}
	EOF
	[ "$(rules)" = '2001:db8:1::/48 2001:db8:2::/48 fd00:1::2' ]
	udp_ask left 3 fd00:1::2 4433
	[ "$(mark list --json | jq 'select(.dst == "fd00:1::2").flows')" = 1 ]
	reload <<-EOF
	rules:
	  - {dst: "fd00:1::2", proto: udp, experiment: atlas, activity: 9}
	  - {dst: ":443", experiment: cms, activity: 14}
	EOF
	[ "$(rules)" = '2001:db8:1::/48 :443 fd00:1::2' ]
	# What has not changed was not touched.
	[ "$(mark list --json | jq 'select(.dst == "fd00:1::2").flows')" = 1 ]
	reload <<<'rules: [{dst: "fd00:1::2", proto: udp, experiment: 512, activity: 9}]'
	grep -q 'run.yaml:[0-9:]* mark.rules.0: experiment 512' "$DIR/run.words" || {
		cat "$DIR/run.words" >&2
		false
	}
	[ "$(rules)" = '2001:db8:1::/48 :443 fd00:1::2' ]
	run_stop
	[ "$(rules)" = '2001:db8:1::/48' ]
}

@test "killed, it leaves its rules in force; the next one takes back what is no longer said" {
	udp_echo_start right :: 4433
	run_start <<-EOF
	rules:
	  - {dst: "fd00:1::2", proto: udp, experiment: atlas, activity: 9}
	  - {dst: ":443", experiment: cms, activity: 14}
	EOF
	kill -KILL "$RUN"
	wait "$RUN" || true
	udp_ask left 5 fd00:1::2 4433
	[ "$(counter mark_label)" = 5 ]
	mark add --dst :80 --experiment 1 --activity 1
	run_start <<<'rules: [{dst: "fd00:1::2", proto: udp, experiment: atlas, activity: 9}]'
	[ "$(rules)" = ':80 fd00:1::2' ]
	udp_ask left 5 fd00:1::2 4433
	[ "$(counter mark_label)" = 10 ]
	run_stop
}

@test "what a user says of the same ends holds, and is a user's from then on" {
	tm up -n left
	mark add --dst :80 --experiment 1 --activity 1
	run_start <<-EOF
	rules:
	  - {dst: ":80", experiment: atlas, activity: 9}
	  - {dst: ":81", experiment: atlas, activity: 9}
	EOF
	grep -q 'mark.rules.0: `mark add` has said otherwise' "$DIR/run.words"
	[ "$(mark list --json | jq -r 'select(.dst == ":80").experiment')" = default ]
	mark add --dst :81 --experiment 1 --activity 1
	run_stop
	[ "$(rules)" = ':80 :81' ]
}

@test "ids are handed out in turn, private networks are excluded" {
	udp_echo_start right :: 4433
	run_start <<-EOF
	exclude: [private]
	rules:
	  - {dst: ":4433", ids: [atlas/9, cms/14], pick: round-robin}
	EOF
	for _ in 1 2; do udp_ask left 1 fd00:1::2 4433; done
	tm flows --json | jq -se 'map(select(.experiment)) | length == 0'
	reload <<-EOF
	rules:
	  - {dst: ":4433", ids: [atlas/9, cms/14], pick: round-robin}
	EOF
	for _ in 1 2; do udp_ask left 1 fd00:1::2 4433; done
	tm flows --json | jq -se 'map(select(.node == "left" and .experiment) | .experiment)
		| sort == ["atlas", "cms"]' || { tm flows --json >&2; false; }
	mark list --json | jq -e '.ids == "2/9,3/14" and .pick == "round-robin"'
	mark list --json >"$DIR/marks"
	run_stop
}

@test "a rule with a mistake is refused with its place" {
	check() { # WORDS
		{
			printf 'mark:\n'
			sed 's/^/  /'
		} >"$DIR/bad.yaml"
		run -2 "$TIDEMARK" run -c "$DIR/bad.yaml" --check-config
		grep -qE -- "$1" <<<"$output" || {
			echo "$output" >&2
			false
		}
	}
	check 'bad.yaml:3:7: mark.rules.0: experiment and activity are needed' <<-EOF
	rules:
	  - {dst: ":80"}
	EOF
	check 'mark.rules.0: experiment nobody' <<<'rules: [{experiment: nobody, activity: 1}]'
	check 'one connection' \
		<<<'rules: [{src: "[::1]:1", dst: "[::1]:2", experiment: 1, activity: 1}]'
	check 'the same ends as mark.rules.0' \
		<<<'rules: [{experiment: 1, activity: 1}, {experiment: 2, activity: 1}]'
	check 'did you mean dst' <<<'rules: [{dest: ":1", experiment: 1, activity: 1}]'
	check 'not a span' <<<'rules: [{experiment: 1, activity: 1, for: soon}]'
	check 'mark.exclude.0' <<<'exclude: [privat]'
	check 'mark.how: .*not a way' <<<'how: loudly'
	check 'mark.registry: ' <<-EOF
	registry: $DIR/none
	rules: [{experiment: 1, activity: 1}]
	EOF
}

@test "a collector is found by its name, and found again where it has gone" {
	# /etc/hosts of this test alone.
	echo '127.0.0.1 collector.test' >"$DIR/hosts"
	mount --bind "$DIR/hosts" /etc/hosts
	collector_start "$DIR/collected" 127.0.0.1 10600
	udp_echo_start right :: 4433
	run_start <<-EOF
	fireflies: {destination: false, collectors: ["collector.test:10600", "127.0.0.1:10600"]}
	EOF
	umount /etc/hosts
	await_line "$DIR/run.words" 'collector.test is ::ffff:127.0.0.1'
	mark add --proto udp --dst :4433 --experiment 3 --activity 1
	udp_ask left 3 fd00:1::2 4433
	await 10 has_lines "$DIR/collected" '"state":"start"' 1
	# Both are one.
	await 10 has_lines "$DIR/collected" '"state":"ongoing"' 1
	[ "$(lines "$DIR/collected" '"state":"start"')" = 1 ]
	run_stop
}
