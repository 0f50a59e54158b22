#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The daemon records, and answers for its record: over its socket, over TLS, over HTTP.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash
load run.bash
load serve.bash

setup() {
	lab_make
	TESTS=${BUILD:-.build}/tests
	REC=$DIR/rec
	node client server
	wire client server 1
	udp_echo_start server 10.1.0.2 7
}

teardown() {
	lab_clean
	ip link del tls 2>/dev/null
	return 0
}

recorder() { # MORE-LINES-OF-RECORD
	cat <<-EOF
	nodes: [netns:client, netns:server]
	api: {listen: ["$API"]}
	record:
	  dir: $REC
	  socket: {path: $DIR/query}
	  $1
	EOF
}

# A wire from the world, where the daemon is, to a node: 10.9.0.1 and 10.9.0.2.
tls_wire() {
	TLS=10.9.0.1
	node analyst
	ip link add tls type veth peer name tls netns analyst
	ip addr add 10.9.0.1/24 dev tls
	ip link set tls up
	ip -n analyst addr add 10.9.0.2/24 dev tls
	ip -n analyst link set tls up
	certificates_make 10.9.0.1
}

tls_lines() {
	echo "tls: {listen: '$TLS', cert: $DIR/server.crt, key: $DIR/server.key, ca: $DIR/ca.crt}"
}

# Of 5 requests and 5 answers, each seen at both nodes.
asked_20() {
	udp_ask client 5 10.1.0.2 7
	await 10 answers 20 'udp port 7'
}

of_class() { # FIELD CLASS
	tm show record --json | jq "select(.class == \"$2\") | .$1"
}

holds() { # CLASS CONDITION
	tm show record --json | jq -es "any(.[]; .class == \"$1\" and $2)"
}

lost() {
	tm show record --json | jq -s 'map(.lost_packets) | add'
}

# ---- the socket -------------------------------------------------------------------------

@test "over the socket a query answers what one of the directory does, in every form" {
	run_start < <(recorder '')
	asked_20
	run_stop
	kill -0 "$RUN" 2>/dev/null && false
	run_again
	for form in --json --count --flows '--flows --json' '--limit 3' '--json --by hlc'; do
		# shellcheck disable=SC2086
		diff <(query_at $form 'udp port 7') \
			<("$TIDEMARK" query -d "$REC" $form 'udp port 7')
	done
	query_at -w "$DIR/at.pcapng" 'udp port 7'
	"$TIDEMARK" query -d "$REC" -w "$DIR/d.pcapng" 'udp port 7'
	cmp "$DIR/at.pcapng" "$DIR/d.pcapng"
	[ "$(tshark -r "$DIR/at.pcapng" 2>/dev/null | wc -l)" = 20 ]
	[ "$(query_at --count --since 1h 'udp port 7')" = 20 ]
	[ "$(query_at --count --until 1h 'udp port 7')" = 0 ]
	run_stop
	[ ! -e "$DIR/query" ]
	nothing_attached
}

@test "what is wrong is said where it is wrong, and the daemon answers the next" {
	run_start < <(recorder '')
	run -2 query_at 'udp and'
	[[ $output == *'column 8'* ]]
	run -2 query_at --limit 0 udp
	run -2 "$TIDEMARK" query --at unix:none udp
	[[ $output == *'not an address'* ]]
	run -2 "$TIDEMARK" query --at "unix:$DIR/query" -d "$REC" udp
	run -2 "$TIDEMARK" query --at 127.0.0.1 udp
	[[ $output == *'needs --cert, --key and --ca'* ]]
	run -1 "$TIDEMARK" query --at "unix:$DIR/nobody" udp
	[[ $output == *"$DIR/nobody: No such file"*'tidemark run'* ]]
	run -1 query_at --cancel 99
	[[ $output == *'99: no such query runs'* ]]
	for bytes in 'GET / HTTP/1.1' '{"query":1}' '{"query":"udp","more":1}' '[]' '{"cancel":-1}'; do
		echo "$bytes" | timeout 10 socat -t 5 - "UNIX-CONNECT:$DIR/query" >"$DIR/reply"
		grep -aq 'tidemark: query: ' "$DIR/reply"
	done
	head -c 40000 /dev/zero | timeout 10 socat -t 5 - "UNIX-CONNECT:$DIR/query" >"$DIR/reply" || :
	[ ! -s "$DIR/reply" ]
	await 15 guests_are 0
	[ "$(query_at --count tcp)" = 0 ]
	run_stop
}

@test "the socket is root's, and where another user may connect, the kernel says who it is" {
	run_start < <(recorder '')
	[ "$(stat -c %a "$DIR/query")" = 600 ]
	chmod 711 "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" "$DIR" "$DIR/.." "$DIR/../.." || :
	run -1 setpriv --reuid 1234 --clear-groups -- "$TIDEMARK" query --at "unix:$DIR/query" udp
	cp "$TIDEMARK" "$DIR/asker" # where another user finds it
	sed -i "s,path: $DIR/query,path: $DIR/query\, uid: 1234," "$DIR/run.yaml"
	kill -HUP "$RUN"
	await_line "$WORDS" reloaded
	[ "$(stat -c %a "$DIR/query")" = 666 ]
	as_user 1234 | grep -aq '^d'
	[ -z "$(as_user 4321)" ]
	run -1 setpriv --reuid 4321 --clear-groups -- "$DIR/asker" query --at "unix:$DIR/query" udp
	[[ $output == *'is this user one who may ask'* ]]
	[ "$(ask /metrics | awk '$1 == "tidemark_queries_refused_total" { print $2 }')" = 2 ]
	run_stop
}

as_user() { # UID
	echo '{"query":"udp","format":"count"}' | setpriv --reuid "$1" --clear-groups -- \
		socat -t 5 - "UNIX-CONNECT:$DIR/query" 2>/dev/null || :
}

# ---- TLS --------------------------------------------------------------------------------

@test "over TLS, from another host's namespace, with certificates on both sides" {
	tls_wire
	run_start < <(recorder "$(tls_lines)")
	asked_20
	[ "$(TLS=$TLS in_analyst client --count 'udp port 7')" = 20 ]
	in_analyst client -w "$DIR/tls.pcapng" 'udp port 7'
	query_at -w "$DIR/at.pcapng" 'udp port 7'
	cmp "$DIR/tls.pcapng" "$DIR/at.pcapng"
	run -2 in_analyst client 'udp and'
	[[ $output == *'column 8'* ]]
	# By name, when the address is not the certificate's.
	[ "$(in_analyst client --name recorder.test --count 'udp port 7')" = 20 ]
	run -1 in_analyst client --name other.test --count udp
	[[ $output == *'does not match with the expected CN'* ]]
	# Who asks is shown by certificate.
	in_node analyst "$TIDEMARK" query --at "$TLS" --cert "$DIR/client.crt" \
		--key "$DIR/client.key" --ca "$DIR/ca.crt" --follow udp >/dev/null 3>&- &
	PIDS+=($!)
	await 10 queries_are 1
	query_at --list | grep -E ' tls .* 10\.9\.0\.2:[0-9]+ CN=client'
	run_stop
}

in_analyst() { # CERTIFICATE ARGS...
	in_node analyst "$TIDEMARK" query --at "$TLS" --cert "$DIR/$1.crt" --key "$DIR/$1.key" \
		--ca "$DIR/ca.crt" "${@:2}"
}

@test "without a certificate, with one of others, or one for something else, nobody is answered" {
	tls_wire
	run_start < <(recorder "$(tls_lines)")
	authority_make other
	certificate_make other stranger clientAuth DNS:analyst.test
	certificate_make ca elsewhere serverAuth IP:10.9.0.77
	run -1 in_analyst stranger --count udp
	run -1 in_analyst server --count udp
	await_line "$WORDS" 'a client was refused: '
	# The authority in question is ours alone: not whom the stranger believes.
	run -1 in_node analyst "$TIDEMARK" query --at "$TLS" --cert "$DIR/client.crt" \
		--key "$DIR/client.key" --ca "$DIR/other.crt" --count udp
	[[ $output == *'not correctly signed by the trusted CA'* ]]
	: >"$DIR/none"
	in_node analyst timeout 10 openssl s_client -connect "$TLS:9465" -CAfile "$DIR/ca.crt" \
		-quiet <<<'{"query":"udp","format":"count"}' >"$DIR/none" 2>/dev/null || :
	[ ! -s "$DIR/none" ]
	run in_node analyst timeout 10 openssl s_client -connect "$TLS:9465" -tls1_1 \
		-cipher 'ALL:@SECLEVEL=0' -cert "$DIR/client.crt" -key "$DIR/client.key" </dev/null
	[ "$status" != 0 ]
	# Not TLS at all.
	in_node analyst timeout 10 socat -t 5 - "TCP:$TLS:9465" <<<'{"query":"udp"}' >"$DIR/none" || :
	run ! grep -aq tidemark "$DIR/none"
	[ "$(in_analyst client --count tcp)" = 0 ]
	[ "$(ask /v1/daemon | jq .record.queries)" = 1 ]
	# A server whose certificate is for another address is not believed.
	run_stop
	sed -i "s,server\.,elsewhere.,g" "$DIR/run.yaml"
	run_again
	run -1 in_analyst client --count tcp
	[[ $output == *'not for this address'* ]]
	[ "$(in_analyst client --name elsewhere --count tcp 2>/dev/null || echo no)" = no ]
	# Neither is a client who plays the server.
	run_stop
	setsid openssl s_server -accept "$TLS:9465" -cert "$DIR/client.crt" -key "$DIR/client.key" \
		-CAfile "$DIR/ca.crt" -Verify 1 -quiet >"$DIR/played" 2>&1 3>&- </dev/zero &
	PIDS+=($!)
	await 10 bash -c "ss -Hltn 'sport = :9465' | grep -q ."
	run -1 in_analyst client --name analyst.test --count tcp
	[[ $output == *'extendedKeyUsage'* ]]
	run ! grep -q query "$DIR/played"
}

@test "keys that others can read, and files that are no certificates, are refused at the start" {
	tls_wire
	chmod 644 "$DIR/server.key"
	run_fails < <(recorder "$(tls_lines)")
	[ "$status" = 1 ]
	[[ $output == *"server.key: others can read it; chmod 600"* ]]
	nothing_attached
	chmod 600 "$DIR/server.key"
	echo nonsense >"$DIR/ca.crt"
	run_fails < <(recorder "$(tls_lines)")
	[ "$status" = 1 ]
	[[ $output == *"ca.crt: "* ]]
	nothing_attached
}

# ---- several at once --------------------------------------------------------------------

@test "running queries are listed, and cancelled by number, over socket and HTTP" {
	run_start < <(recorder '')
	for n in 1 2; do
		asking_start "$n" --follow --json 'udp port 7'
		followers[n]=$ASKING
	done
	await 10 queries_are 2
	asked_20
	await_line "$DIR/asking.2" '"dst":"10.1.0.2:7"'
	await 10 queries_are 2 # one that has answered may not have left yet
	query_at --list --json >"$DIR/list"
	[ "$(jq -r .query "$DIR/list" | sort -u)" = 'udp port 7' ]
	id=$(jq -r .id "$DIR/list" | head -1)
	query_at --cancel "$id"
	await 10 queries_are 1
	other=$(query_at --list --json | jq .id)
	[ "$other" != "$id" ]
	[ "$(ask /v1/queries | jq '.queries | length')" = 1 ]
	[ "$(status_of /v1/queries/99 -X DELETE)" = 404 ]
	[ "$(status_of /v1/queries/x -X DELETE)" = 400 ]
	[ "$(ask "/v1/queries/$other" -X DELETE | jq .cancelled)" = "$other" ]
	await 10 queries_are 0
	for n in 1 2; do
		status=0
		wait "${followers[n]}" || status=$?
		[ "$status" = 1 ]
		grep -qx 'tidemark: query: ended by the daemon, or by --cancel; there may be more' \
			"$DIR/asked.$n"
	done
	await 10 guests_are 0
	[ "$(wc -l <"$DIR/asking.1")" -ge 1 ]
	run_stop
}

@test "Ctrl-C at the one who asks ends the query at the daemon, over socket and TLS" {
	tls_wire
	run_start < <(recorder "$(tls_lines)")
	asking_start 1 --follow --json 'udp port 7'
	nsenter --net=/run/netns/analyst -- "$TIDEMARK" query --at "$TLS" --cert "$DIR/client.crt" \
		--key "$DIR/client.key" --ca "$DIR/ca.crt" --follow --json 'udp port 7' \
		>"$DIR/asking.2" 2>"$DIR/asked.2" 3>&- &
	over_tls=$!
	PIDS+=("$over_tls")
	await 10 queries_are 2
	asked_20
	for n in 1 2; do await_line "$DIR/asking.$n" '"dst":"10.1.0.2:7"'; done
	kill -INT "$over_tls"
	wait "$over_tls"
	await 10 queries_are 1
	kill -INT "$ASKING"
	wait "$ASKING"
	await 10 queries_are 0
	await 10 guests_are 0
	run ! grep -q . "$DIR/asked.1" "$DIR/asked.2"
	run_stop
}

@test "eight queries at once while packets come: the same answers, and recording loses nothing" {
	"$TESTS/gen_trace" -p 60000 -f 3000 >"$DIR/trace.pcap"
	node a b
	ip link add wa netns a type veth peer name wb netns b
	for end in a b; do
		ip -n "$end" link set "w$end" mtu 2000 arp off multicast off up
	done
	sed 's/netns:server/netns:server, netns:b/' < <(recorder 'queries: 8') >"$DIR/first"
	run_start <"$DIR/first"
	in_node a "$TESTS/gen_replay" -i wa -r 40000 "$DIR/trace.pcap"
	await 20 answers 60000 'node b'
	in_node a "$TESTS/gen_replay" -i wa -r 20000 "$DIR/trace.pcap" 3>&- &
	replay=$!
	PIDS+=("$replay")
	for n in 1 2 3 4 5 6 7 8; do
		asking_start "$n" --limit 60000 -w "$DIR/out.$n" 'node b'
		asking[n]=$ASKING
	done
	for n in 1 2 3 4 5 6 7 8; do wait "${asking[n]}"; done
	wait "$replay"
	for n in 2 3 4 5 6 7 8; do cmp "$DIR/out.1" "$DIR/out.$n"; done
	await 20 answers 120000 'node b'
	[ "$(lost)" = 0 ]
	await 10 guests_are 0
	run_stop
}

@test "queries beyond the limit are refused with words, not kept waiting" {
	run_start < <(recorder 'queries: 2')
	for n in 1 2; do
		asking_start "$n" --follow udp
	done
	await 10 queries_are 2
	run -1 query_at --count udp
	[[ $output == *'2 queries run already; '*'--list'* ]]
	[ "$(status_of '/v1/query?q=udp')" = 503 ]
	run_stop
}

@test "who goes or takes nothing leaves no process behind, and others are answered meanwhile" {
	run_start < <(recorder '')
	udp_ask client 3000 10.1.0.2 7 1200
	await 10 answers 12000 'udp port 7'
	python3 - "$DIR/query" <<-'EOF' 3>&- &
	import socket, sys, time
	s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
	s.send(b'{"query":"udp port 7","format":"pcapng"}\n')
	time.sleep(600)
	EOF
	PIDS+=($!)
	stalled=$!
	await 10 queries_are 1
	asking_start 1 --follow udp
	follower=$ASKING
	await 10 queries_are 2
	[ "$(query_at --count 'udp port 7')" = 12000 ]
	# One process each for the connection, and one for the query.
	await 10 guests_are 2
	kill -KILL "$stalled" "$follower"
	await 10 guests_are 0
	await 10 queries_are 0
	# Over HTTP too.
	curl -sN --max-time 600 "http://$API/v1/query?q=udp&follow=1" >/dev/null 3>&- &
	PIDS+=($!)
	follower=$!
	await 10 queries_are 1
	kill -KILL "$follower"
	await 10 queries_are 0
	await 10 guests_are 0
	run_stop
}

@test "a packet is in the answer within a tenth of a second or so of its arrival" {
	run_start < <(recorder '')
	python3 - "$DIR/query" >"$DIR/fresh" <<-'EOF' 3>&- &
	import socket, sys, time, json, calendar
	s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
	s.send(b'{"query":"udp dst port 7 and node server","format":"json","follow":true}\n')
	print("asked", flush=True)
	def take(n):
	    data = b""
	    while len(data) < n:
	        more = s.recv(n - len(data))
	        assert more
	        data += more
	    return data
	while True:
	    head = take(5)
	    body = take(int.from_bytes(head[1:], "big"))
	    now = time.time()
	    for line in body.splitlines() if head[0:1] == b"d" else []:
	        wall = json.loads(line)["wall"]
	        at = calendar.timegm(time.strptime(wall[:19], "%Y-%m-%dT%H:%M:%S")) + float("0" + wall[19:-1])
	        print(round((now - at) * 1000, 1), flush=True)
	EOF
	PIDS+=($!)
	await 10 queries_are 1
	for n in $(seq 1 20); do
		udp_ask client 1 10.1.0.2 7
		await 10 bash -c "[ \$(wc -l <'$DIR/fresh') -gt $n ]"
	done
	sed 1d "$DIR/fresh" | sort -n | awk '{ all[NR] = $1 }
		END { print "# fresh after " all[int(NR / 2)] " ms (median), " all[NR] " ms (most)" }' >&3
	# Never a pass or fail by time, but by the order of things: nothing waits for a second one.
	[ "$(sed 1d "$DIR/fresh" | wc -l)" = 20 ]
	run_stop
}

# ---- classes, peers, orders -------------------------------------------------------------

@test "a reload changes classes under open connections, and a wrong one changes nothing" {
	run_start < <(recorder 'classes: [{name: dns, filter: port 53}, {name: rest}]')
	asked_20
	stored=$(of_class stored_packets rest)
	[ "$stored" -ge 20 ]
	flows=$(tm flows --json | jq -s length)
	sed -i 's/{name: rest}/{name: echo, filter: udp port 7, precedence: 9}, {name: rest}/' \
		"$DIR/run.yaml"
	kill -HUP "$RUN"
	await_line "$WORDS" reloaded
	udp_ask client 5 10.1.0.2 7
	await 10 answers 20 'class echo'
	[ "$(of_class stored_packets echo)" = 20 ]
	[ "$(tm flows --json | jq -s length)" -ge "$flows" ]
	# Wrong: refused with its place, and what was before holds.
	cp "$DIR/run.yaml" "$DIR/good.yaml"
	sed -i 's/filter: udp port 7/filter: udp prot 7/' "$DIR/run.yaml"
	: >"$WORDS"
	kill -HUP "$RUN"
	await_line "$WORDS" 'the configuration before stays'
	grep -q 'class echo: filter' "$WORDS"
	sed 's/precedence: 9/precedence: high/' "$DIR/good.yaml" >"$DIR/run.yaml"
	: >"$WORDS"
	kill -HUP "$RUN"
	await_line "$WORDS" 'run.yaml:6:[0-9]+: record.classes.1.precedence'
	udp_ask client 5 10.1.0.2 7
	await 10 answers 40 'class echo'
	[ "$(lost)" = 0 ]
	# Gone, the service too; and back, in another directory.
	grep -v -A9 record "$DIR/good.yaml" | head -2 >"$DIR/run.yaml"
	: >"$WORDS"
	kill -HUP "$RUN"
	await_line "$WORDS" reloaded
	[ ! -e "$DIR/query" ]
	[ "$(status_of /v1/queries)" = 404 ]
	sed "s,$REC,$DIR/other," "$DIR/good.yaml" >"$DIR/run.yaml"
	kill -HUP "$RUN"
	await 10 test -S "$DIR/query"
	udp_ask client 5 10.1.0.2 7
	await 10 answers 20 'class echo'
	[ "$("$TIDEMARK" query -d "$REC" --count 'class echo')" = 40 ]
	run_stop
}

@test "another directory takes over without losing what comes meanwhile" {
	run_start < <(recorder '')
	udp_ask client 4000 10.1.0.2 7 3>&- &
	load=$!
	await 10 answers 400 'udp port 7'
	sed -i "s,dir: $REC,dir: $DIR/second," "$DIR/run.yaml"
	kill -HUP "$RUN"
	wait "$load"
	await_line "$WORDS" reloaded
	await 10 both_hold 16000
	[ "$(lost)" = 0 ]
	run_stop
}

both_hold() { # PACKETS
	[ "$("$TIDEMARK" query -d "$REC" -d "$DIR/second" --count 'udp port 7')" = "$1" ]
}

@test "nodes of the section are the only ones recorded" {
	run_start < <(recorder 'nodes: [server]')
	udp_ask client 5 10.1.0.2 7
	await 10 answers 10 'udp port 7'
	[ "$(query_at --count 'node client')" = 0 ]
	run_stop
}

@test "killed, it leaves the kernel recording; the next one takes over, and nothing is missing" {
	run_start < <(recorder '')
	asked_20
	asking_start 1 --follow udp
	await 10 queries_are 1
	guest=$(guests)
	kill -KILL "$RUN"
	await_end "$RUN"
	await_end "$guest"
	udp_ask client 5 10.1.0.2 7
	run_again
	grep -q 'taking over what was recorded' "$WORDS"
	await 10 answers 40 'udp port 7'
	udp_ask client 5 10.1.0.2 7
	await 10 answers 60 'udp port 7'
	[ "$(lost)" = 0 ]
	run_stop
	nothing_attached
}

@test "orders of record act on the daemon's recorder; a second recorder is refused" {
	run_start < <(recorder 'cutoff: 500')
	udp_ask client 20 10.1.0.2 7
	await 10 holds all '.cut_packets > 20'
	run -1 "$TIDEMARK" record --pin-dir "$PIN" --state-dir "$STATE" -d "$DIR/mine"
	[[ $output == *"process $RUN records from this datapath"* ]]
	sed -i 's/cutoff: 500/classes: [{name: short, cutoff: 500}, {name: long, filter: port 1}]/' \
		"$DIR/run.yaml"
	kill -HUP "$RUN"
	await_line "$WORDS" reloaded
	tm record --state-dir "$STATE" --assign 10.1.0.0/24:long:1h
	before=$(query_at --count 'class long')
	udp_ask client 20 10.1.0.2 7
	await 10 answers $((before + 80)) 'class long'
	tm record --state-dir "$STATE" --unassign 10.1.0.0/24
	run -1 tm record --state-dir "$STATE" --suspend 'conn 10.1.0.1:1 10.1.0.2:2'
	run_stop
}

@test "peers of the file and of the command line are the kernel's, and a reload changes them" {
	run_start --peer 192.0.2.0/24 --max-ahead 6h <<-EOF
	nodes: [netns:client, netns:server]
	peers: {ranges: [10.1.0.0/16, 'fd00:1::/32'], max_ahead: 12h, no_stamp_ports: [53]}
	EOF
	peers_are 10.1.0.0/16 192.0.2.0/24 fd00:1::/32
	tm show peers | grep -E '10.1.0.0/16 +6h +53'
	printf '%s\n' 'nodes: [netns:client, netns:server]' \
		'peers: {ranges: [10.2.0.0/16], no_stamp_ports: [53, 99]}' >"$DIR/run.yaml"
	kill -HUP "$RUN"
	await_line "$WORDS" reloaded
	peers_are 10.2.0.0/16 192.0.2.0/24
	kill -HUP "$RUN"
	await 10 bash -c "[ \$(grep -c reloaded '$WORDS') = 2 ]"
	tm show peers | grep -E '10.2.0.0/16 +6h +53,99'
	kill -KILL "$RUN"
	await_end "$RUN"
	echo 'nodes: [netns:client, netns:server]' >"$DIR/run.yaml"
	run_again
	peers_are
	run_stop
	run_fails <<<'peers: {ranges: [10.0.0.300/8]}'
	[ "$status" = 2 ]
	[[ $output == *'run.yaml:1:18: peers.ranges.0: 10.0.0.300/8: not a range'* ]]
	run_fails <<<'peers: {no_stamp_ports: [70000]}'
	[ "$status" = 2 ]
}

peers_are() { # RANGE...
	diff <(tm show peers --json | jq -r 'select(.peer) | .peer' | sort) <(printf '%s\n' "$@" | sed '/^$/d')
}

# ---- HTTP and numbers -------------------------------------------------------------------

@test "HTTP gives the same packets, says what is wrong, and describes itself" {
	run_start < <(recorder '')
	asked_20
	[ "$(ask '/v1/query?q=udp+port+7' | jq -s length)" = 20 ]
	[ "$(ask '/v1/query?q=udp+port+7&format=count')" = 20 ]
	ask '/v1/query?q=udp+port+7&format=pcapng' -o "$DIR/http.pcapng"
	query_at -w "$DIR/at.pcapng" 'udp port 7'
	cmp "$DIR/http.pcapng" "$DIR/at.pcapng"
	[ "$(ask '/v1/query?q=udp+port+7&format=flows' | jq -s length)" -ge 2 ]
	[ "$(ask '/v1/query?q=udp+port+7&limit=4' | wc -l)" = 4 ]
	[ "$(ask '/v1/query?q=tcp' -o "$DIR/none" -w '%{http_code}')" = 200 ]
	[ ! -s "$DIR/none" ]
	[ "$(ask '/v1/query?q=udp' -I | head -1 | tr -d '\r')" = 'HTTP/1.1 200 OK' ]
	# What is not understood is not answered as if it had not been said.
	for bad in 'q=udp+and' 'format=xml' 'limit=0' 'by=size' 'since=soon' 'query=udp' 'q' \
		'q=udp&q=tcp' 'q=udp%00+and+port+9' 'format=count&&q=udp'; do
		[ "$(status_of "/v1/query?$bad")" = 400 ] || { echo "$bad"; false; }
	done
	ask '/v1/query?q=udp+and' | jq -r .message | grep -q 'column 8'
	ask '/v1/query?query=udp' | jq -r .message | grep -q 'query: no such parameter'
	[ "$(ask '/v1/query?' | jq -s length)" -ge 20 ]
	[ "$(status_of '/v1/flows?nodes=server')" = 400 ]
	[ "$(status_of '/v1/flows?node=server&limit=5')" = 200 ]
	for path in /v1/query /v1/queries '/v1/queries/{id}'; do
		ask /openapi.json | jq -e --arg p "$path" '.paths[$p]' >/dev/null
	done
	run_stop
}

has_asked() {
	tm show daemon --json --state-dir "$STATE" |
		jq -es 'any(.[]; .show == "recording" and .queries >= 1)'
}

@test "stored, cut, lost, and how far back: per class, in metrics, status and show" {
	run_start < <(recorder 'classes: [{name: echo, filter: udp port 7, cutoff: 1000}, {name: rest}]')
	udp_ask client 50 10.1.0.2 7
	await 10 answers 10 'class echo'
	await 10 holds echo '.disk_bytes > 0'
	stored=$(of_class stored_packets echo)
	[ "$stored" -gt 10 ]
	[ "$(metric 'tidemark_record_stored_packets_total{class="echo"}')" = "$stored" ]
	[ "$(metric 'tidemark_record_cut_packets_total{class="echo"}')" = $((200 - stored)) ]
	[ "$(metric 'tidemark_record_lost_packets_total{class="echo"}')" = 0 ]
	[ "$(metric 'tidemark_record_lost_ratio{class="echo"}')" = 0.000000 ]
	metric 'tidemark_record_disk_seconds{class="echo"}' | grep -E '^[0-9]+\.[0-9]{9}$'
	ask /metrics | promtool check metrics
	[ "$(ask /v1/daemon | jq '.record.classes[] | select(.class == "echo") | .stored_packets')" = \
		"$stored" ]
	[ "$(ask /v1/record | jq '.record[] | select(.class == "echo") | .stored_packets')" = \
		"$stored" ]
	await 10 has_asked
	run_stop
}

# The daemon with what its unit leaves root: bounding set, and no new privileges.
unit_confines() {
	local caps

	caps=$(sed -n 's/^CapabilityBoundingSet=//p' "$BATS_TEST_DIRNAME/../tools/tidemark.service" |
		xargs | sed 's/CAP_//g; s/ /,+/g' | tr '[:upper:]' '[:lower:]')
	setpriv --bounding-set "-all,+$caps" --inh-caps -all --no-new-privs true ||
		skip 'setpriv cannot'
	printf '#!/bin/bash\nexec setpriv --bounding-set "-all,+%s" --inh-caps -all %s "$@"\n' \
		"$caps" "--no-new-privs -- $TIDEMARK" >"$DIR/confined"
	chmod +x "$DIR/confined"
}

@test "what the unit leaves root is enough to record, a mirror port too, and to answer over TLS" {
	tls_wire
	unit_confines
	ip link add mirror type veth peer name mirror netns analyst
	ip link set mirror up
	ip -n analyst link set mirror up
	TIDEMARK=$DIR/confined run_start < <(recorder "$(tls_lines)" && echo "  interfaces: [mirror]" &&
		echo "  zstd: true")
	run ! grep -E 'promiscuous|CAP_NET_RAW|cannot|denied|permitted' "$WORDS"
	ip -d link show mirror | grep -q 'promiscuity 1'
	# To others, from others.
	in_node analyst python3 -c '
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("mirror", 0))
s.send(bytes.fromhex("02000000000a02000000000b88b5") + b"x" * 60)'
	await 10 answers 1 'device mirror and ether proto 0x88b5'
	udp_ask client 5 10.1.0.2 7
	[ "$(TLS=$TLS in_analyst client --count 'device mirror and ether proto 0x88b5')" = 1 ]
	run_stop
	# What the kernel is asked for there is an address family of its own.
	grep -qE '^RestrictAddressFamilies=.*AF_PACKET' "$BATS_TEST_DIRNAME/../tools/tidemark.service"
	# Without, the daemon records all the same, and says what it cannot.
	sed -i 's/+net_raw/-net_raw/' "$DIR/confined"
	TIDEMARK=$DIR/confined run_again
	await_line "$WORDS" 'CAP_NET_RAW is missing'
	run_stop
}
