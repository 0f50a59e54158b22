# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154,SC2034 # names shared with tools/vm
# Two real hosts (tools/vm hosts): two machines, two kernels, two clocks; one order of what they say
# to each other. The machines' part is in tests/hosts/.

readonly hosts_apart=37 # seconds, and no clock of theirs is right

# A sentence, and the command that is true if it is.
hosts_test()
{
	local sentence=$1

	shift
	if "$@"; then
		((passed++))
		echo "ok - $sentence"
	else
		((failed++))
		echo "not ok - $sentence: $*"
	fi
}

hosts_fact() # MACHINE NAME
{
	sed -n "s/^$1: FACT $2 //p" "$dir/out/$1" | head -n 1
}

# How many of the merged events are so.
hosts_events() # FILTER
{
	jq -s "[.[] | select($1)] | length" "$dir/merged"
}

hosts_verdict() # FIELD LOG...
{
	local field=$1

	shift
	"$binary" check --json "$@" 2>"$dir/words" | jq ".$field"
}

hosts_received() # NODE src|dst ENDPOINT
{
	hosts_events ".node == \"$1\" and .type == \"recv\" and .$2 == \"$3\""
}

# Every hop of every request, in both directions, over both families.
hosts_complete()
{
	local end

	for end in '192.0.2.1:80' '[2001:db8::1]:80' '192.0.2.1:7' '[2001:db8::1]:7'; do
		(($(hosts_received north dst "$end") >= 200)) || return
		(($(hosts_received south src "$end") >= 200)) || return
	done
}

# They need not begin at the same moment.
hosts_are_apart()
{
	local apart

	apart=$(hosts_fact b apart)
	echo "south is $apart s ahead"
	((apart > hosts_apart - 5 && apart < hosts_apart + 5))
}

hosts_judge()
{
	hosts_test "the kernels differ" \
		[ "$(hosts_fact a kernel)" != "$(hosts_fact b kernel)" ]
	hosts_test "the clocks are some $hosts_apart s apart" hosts_are_apart
	hosts_test "every datagram was answered" [ "$(hosts_fact b datagrams)" = 0 ]
	hosts_test "the logs merge" "$binary" merge "$dir/a" "$dir/b" -o "$dir/merged"
	hosts_test "each request and each answer is in the logs of both" hosts_complete
	hosts_test "no effect is before its cause" \
		[ "$(hosts_verdict inversions "$dir/merged")" = 0 ]
	hosts_test "nor without merging: the stamps travelled" \
		[ "$(hosts_verdict inversions "$dir/a" "$dir/b")" = 0 ]
	hosts_test "by wall clock many are" \
		[ "$(hosts_verdict wall_inversions "$dir/merged")" -ge 800 ]
	hosts_test "every message has both its ends" \
		[ "$(hosts_verdict pairs "$dir/merged")" -ge 1600 ]
	hosts_test "nothing was lost" [ "$(hosts_verdict gaps "$dir/merged")" = 0 ]
	hosts_test "nearly every edge was told in-band" \
		[ "$(hosts_events '.edge == "in-band"')" -ge 1600 ]
	"$binary" check --json "$dir/merged" 2>"$dir/words"
}

cmd_hosts()
{
	local one=${1:-6.1} other=${2:-6.12} passed=0 failed=0 skipped=0 rc=0
	local binary dir log kernel

	binary=$(realpath "${TIDEMARK:-$root/tidemark}")
	for kernel in "$one" "$other"; do
		kernel_prepare "$kernel" && continue
		[[ -n $offline ]] && skipped=1 || failed=1
		echo "$kernel: $reason"
		echo "$passed passed, $failed failed, $skipped skipped"
		((failed == 0))
		return
	done
	mkdir -p "$cache"
	dir=$(mktemp -d "$cache/job-XXXXXX") || die "$cache: cannot write there"
	jobs+=("$dir")
	mkdir "$dir/out"
	log=$cache/hosts.log
	"$here/vm" pair "$one" "$other" --rtc-b "+${hosts_apart}s" --timeout 400 \
		--output "$dir/out" --file "$binary:/usr/bin/tidemark" \
		--file "$root/tests/hosts/host.bash:/lab/host.bash" \
		--script-a "$root/tests/hosts/north" --script-b "$root/tests/hosts/south" \
		>"$log" 2>&1 || rc=$?
	cat "$dir/out/a" "$dir/out/b" >>"$log"
	sed -n 's/^a: LOG //p' "$dir/out/a" >"$dir/a"
	sed -n 's/^b: LOG //p' "$dir/out/b" >"$dir/b"
	hosts_test "both machines did their part" [ "$rc" = 0 ]
	if ((rc == 0)); then
		hosts_judge
	else
		grep -v ': LOG ' "$log" | tail -n 20
	fi
	echo "hosts $one and $other: log in $log"
	echo "$passed passed, $failed failed, $skipped skipped"
	((failed == 0))
}
