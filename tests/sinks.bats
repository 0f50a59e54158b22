#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Where events go: rotated files, a stream socket, OTLP. Nothing is lost without being told.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash
load run.bash
load serve.bash

setup() {
	lab_make
	node client server
	wire client server 1
	udp_echo_start server 10.1.0.2 7
}

teardown() {
	lab_clean
	umount "$DIR/small" 2>/dev/null || :
}

# What the files say, in the order of their names.
kept() {
	local file

	for file in "$DIR"/log/events-*; do
		case $file in
		*.zst) zstdcat "$file" ;;
		*) cat "$file" ;;
		esac
	done
}

read_socket() { # NAME [SIZE]
	socat -u UNIX-CONNECT:"$DIR/events" - >"$DIR/$1" 3>&- &
	PIDS+=($!)
}

readers() {
	[ "$(tm show daemon --state-dir "$STATE" --json |
		jq 'select(.sink == "socket") | .readers')" = "$1" ]
}

has_lines() { # NAME COUNT
	[ "$(grep -c '"send"' "$DIR/$1")" = "$2" ]
}

taken() { # SINK COUNT
	[ "$(tm show daemon --state-dir "$STATE" --json |
		jq "select(.sink == \"$1\") | .events")" -ge "$2" ]
}

@test "files rotate by size, are compressed when closed, and hold every event once" {
	trace_start -n netns:client -n netns:server --write "$DIR/log" --file-size 16k
	udp_ask client 300 10.1.0.2 7
	trace_stop
	[ "$(compgen -G "$DIR/log/*.jsonl.zst" | wc -l)" -ge 5 ]
	[ "$(find "$DIR/log" -type f ! -name '*.jsonl.zst' | wc -l)" = 0 ]
	[ "$(stat -c %a "$DIR/log")" = 700 ]
	kept | diff "$LOG" -
	kept >"$DIR/all"
	valid "$DIR/all"
	check_ok "$DIR/all"
}

@test "files rotate by age, and the oldest go to stay within the budget" {
	local first

	run_start <<-EOF
	nodes: [netns:client, netns:server]
	trace: {write: {dir: $DIR/log, file_size: 8k, file_age: 500ms, budget: 16k}}
	EOF
	udp_ask client 1 10.1.0.2 7
	await 10 compgen -G "$DIR/log/*.zst"
	first=$(cd "$DIR/log" && echo *.zst)
	for _ in $(seq 20); do
		udp_ask client 60 10.1.0.2 7
		[ ! -e "$DIR/log/$first" ] && break
	done
	await 20 test ! -e "$DIR/log/$first"
	[ "$(cat "$DIR"/log/* | wc -c)" -le $((16 * 1024 + 65536)) ]
	run_stop
	[ "$(cat "$DIR"/log/* | wc -c)" -le $((16 * 1024)) ]
}

@test "after kill -9 all that was written is read, and the next start puts it in order" {
	run_start <<-EOF
	nodes: [netns:client, netns:server]
	trace: {write: {dir: $DIR/log}}
	EOF
	udp_ask client 50 10.1.0.2 7
	await 10 bash -c "cat '$DIR'/log/*.jsonl | grep -c '\"send\"' | grep -qx 100"
	kill -KILL "$RUN"
	wait "$RUN" || :
	kept >"$DIR/all"
	check_ok "$DIR/all"
	# Torn where a page ended, say.
	printf '{"hlc":"18f3' >>"$(echo "$DIR"/log/*.jsonl)"
	run_again
	await 10 compgen -G "$DIR/log/*.zst"
	grep -q 'its last line was torn' "$WORDS"
	run_stop
	kept >"$DIR/all"
	check_ok "$DIR/all"
	[ "$(events '.type == "send"' "$DIR/all")" = 100 ]
	# Two in one directory would spoil it.
	run_again
	run timeout 20 "$TIDEMARK" trace --pin-dir "$PIN-2" --state-dir "$STATE" -n netns:client \
		--write "$DIR/log"
	[ "$status" = 1 ]
	[[ $output == *'another tidemark writes there'* ]]
	run_stop
}

@test "a full disk is said, its loss is told as gaps, and writing goes on when there is room" {
	local sent lost

	mkdir "$DIR/small"
	mount -t tmpfs -o size=128k none "$DIR/small"
	ln -s small/log "$DIR/log"
	run_start <<-EOF
	nodes: [netns:client, netns:server]
	trace: {write: {dir: $DIR/small/log, file_size: 1m, budget: 2m}}
	EOF
	udp_ask client 300 10.1.0.2 7
	await_line "$WORDS" 'small/log: No space left on device; events are not kept'
	await 10 taken write 1
	mount -o remount,size=4m "$DIR/small"
	udp_ask client 1 10.1.0.2 7
	await_line "$WORDS" 'events are kept again'
	udp_ask client 10 10.1.0.2 7
	run_stop || : # 1 would say that something was lost at the very end
	kept >"$DIR/all"
	valid "$DIR/all"
	check_ok "$DIR/all"
	lost=$(jq -n '[inputs | select(.type == "gap") | .count] | add' "$DIR/all")
	sent=$(events '.type == "send" or .type == "recv" or .type == "node-up"' "$DIR/all")
	[ "$lost" -gt 0 ]
	[ $((lost + sent)) = $((2 + 311 * 4)) ]
}

@test "any number of readers of the socket get every line, each from when it came" {
	run_start <<-EOF
	nodes: [netns:client, netns:server]
	trace: {socket: {path: $DIR/events}, write: {dir: $DIR/log}}
	EOF
	[ "$(stat -c '%a %F' "$DIR/events")" = '600 socket' ]
	read_socket one
	read_socket two
	await 10 readers 2
	udp_ask client 50 10.1.0.2 7
	await 10 has_lines one 100
	await 10 has_lines two 100
	read_socket three
	await 10 readers 3
	udp_ask client 10 10.1.0.2 7
	await 10 has_lines three 20
	await 10 has_lines one 120
	kill "${PIDS[-1]}"
	await 10 readers 2
	run_stop
	[ ! -e "$DIR/events" ]
	valid "$DIR/one"
	diff "$DIR/one" "$DIR/two"
	kept | grep -v node-up | diff - <(grep -v node-up "$DIR/one")
}

@test "a reader that is too slow is told what it missed, and the others miss nothing" {
	local lost got

	run_start <<-EOF
	nodes: [netns:client, netns:server]
	trace: {socket: {path: $DIR/events}, every_packet: true, ring: 16m}
	EOF
	read_socket quick
	mkfifo "$DIR/go"
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
s.connect(sys.argv[1])
open(sys.argv[2]).read()
out = open(sys.argv[3], "wb", buffering=0)
while True:
    data = s.recv(65536)
    if not data:
        break
    out.write(data)
' "$DIR/events" "$DIR/go" "$DIR/slow" 3>&- &
	PIDS+=($!)
	await 10 readers 2
	udp_ask client 3000 10.1.0.2 7
	await 10 has_lines quick 6000
	await 10 bash -c "'$TIDEMARK' show daemon --json --state-dir '$STATE' --pin-dir '$PIN' |
		jq -e 'select(.sink == \"socket\").lost > 0'"
	echo >"$DIR/go"
	await_line "$DIR/slow" 'this reader was too slow'
	run_stop
	await_end "${PIDS[-1]}"
	valid "$DIR/slow"
	check_ok "$DIR/slow"
	lost=$(jq -n '[inputs | select(.type == "gap") | .count] | add' "$DIR/slow")
	got=$(events '.type == "send" or .type == "recv"' "$DIR/slow")
	[ $((lost + got)) = 12000 ]
	[ "$(events '.type == "gap"' "$DIR/quick")" = 0 ]
}

# A collector's door: checks the shape of what comes, answers as the file `answer` says.
collector_start() {
	echo 200 >"$DIR/answer"
	: >"$DIR/records"
	cat >"$DIR/collector.py" <<-'EOF'
	import http.server, json, ssl, sys
	KINDS = {"stringValue": str, "boolValue": bool, "intValue": str, "doubleValue": float}
	def attributes(them):
	    out = {}
	    for one in them:
	        assert set(one) == {"key", "value"} and len(one["value"]) == 1, one
	        (kind, value), = one["value"].items()
	        assert isinstance(value, KINDS[kind]), one
	        assert one["key"] not in out, one
	        out[one["key"]] = int(value) if kind == "intValue" else value
	    return out
	class Door(http.server.BaseHTTPRequestHandler):
	    protocol_version = "HTTP/1.1"
	    def do_POST(self):
	        body = self.rfile.read(int(self.headers["Content-Length"]))
	        status = int(open(sys.argv[2]).read())
	        if status == 200:
	            assert self.path == "/v1/logs", self.path
	            assert self.headers["Content-Type"] == "application/json"
	            self.logs(json.loads(body))
	        self.send_response(status)
	        self.send_header("Content-Length", "2")
	        self.send_header("Content-Type", "application/json")
	        self.end_headers()
	        self.wfile.write(b"{}")
	    def logs(self, data):
	        assert set(data) == {"resourceLogs"}
	        out = open(sys.argv[3], "a")
	        for resource in data["resourceLogs"]:
	            assert set(resource) == {"resource", "scopeLogs"}
	            whose = attributes(resource["resource"]["attributes"])
	            assert whose["service.name"] == "tidemark" and whose["host.name"]
	            for scope in resource["scopeLogs"]:
	                assert set(scope) == {"scope", "logRecords"}
	                assert scope["scope"]["name"] == "tidemark" and scope["scope"]["version"]
	                for record in scope["logRecords"]:
	                    assert set(record) == {"timeUnixNano", "observedTimeUnixNano",
	                        "severityNumber", "severityText", "body", "attributes"}, record
	                    assert record["timeUnixNano"].isdigit() and record["body"]["stringValue"]
	                    assert record["severityNumber"] in (9, 13)
	                    line = attributes(record["attributes"])
	                    line["timeUnixNano"] = record["timeUnixNano"]
	                    print(json.dumps(line), file=out, flush=True)
	    def log_message(self, *words):
	        pass
	server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Door)
	if sys.argv[4:]:
	    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
	    context.load_cert_chain(sys.argv[4] + ".crt", sys.argv[4] + ".key")
	    if sys.argv[5:]:
	        context.verify_mode = ssl.CERT_REQUIRED
	        context.load_verify_locations(sys.argv[5])
	    server.socket = context.wrap_socket(server.socket, server_side=True)
	server.serve_forever()
	EOF
	collector_again "$@"
}

collector_again() { # [CERTIFICATE [AUTHORITY]]
	python3 "$DIR/collector.py" 4318 "$DIR/answer" "$DIR/records" "$@" \
		2>"$DIR/collector.words" 3>&- &
	COLLECTOR=$!
	PIDS+=("$COLLECTOR")
	await 10 bash -c "ss -Hltn 'sport = :4318' | grep -q ."
}

exported() { # TYPE COUNT
	[ "$(jq -n "[inputs | select(.type == \"$1\")] | length" "$DIR/records")" -ge "$2" ]
}

otlp_start() {
	run_start <<-EOF
	nodes: [netns:client, netns:server]
	trace: {otlp: {url: "http://$1:4318"}, write: {dir: $DIR/log}}
	EOF
}

@test "events arrive at a collector as log records, with everything their lines say" {
	collector_start
	otlp_start 127.0.0.1
	udp_ask client 20 10.1.0.2 7
	await 10 exported send 40
	await 10 exported recv 40
	run_stop
	# The same events, key by key; timeUnixNano is the wall clock.
	kept | jq -cS 'select(.type == "send" or .type == "recv")' | sort >"$DIR/lines"
	jq -cS 'select(.type == "send" or .type == "recv") | del(.timeUnixNano)' "$DIR/records" | sort |
		diff "$DIR/lines" -
	[ "$(jq -r '.timeUnixNano[-9:] == .wall[20:29]' "$DIR/records" | sort -u)" = true ]
	[ "$(grep -c Error "$DIR/collector.words")" = 0 ]
}

@test "a collector known by name is found in /etc/hosts" {
	grep -q '^127.0.0.1.*localhost' /etc/hosts || skip 'no localhost in /etc/hosts'
	collector_start
	otlp_start localhost
	await 10 exported node-up 2
	run_stop
}

@test "a collector that is away gets everything later, also over a restart" {
	otlp_start 127.0.0.1
	udp_ask client 20 10.1.0.2 7
	await_line "$WORDS" 'does not answer \(Connection refused\); events wait in'
	await 10 compgen -G "$STATE/otlp/*.json"
	kill -KILL "$RUN"
	wait "$RUN" || :
	collector_start
	run_again
	udp_ask client 20 10.1.0.2 7
	await 20 exported send 80
	run_stop
	[ "$(jq -n '[inputs | select(.type == "send")] | length' "$DIR/records")" = 80 ]
	[ "$(jq -r '.node + .hlc + .type' "$DIR/records" | sort | uniq -d | wc -l)" = 0 ]
	[ -z "$(ls "$STATE/otlp")" ]
}

@test "what a collector refuses is counted and told, what it puts off is tried again" {
	collector_start
	echo 503 >"$DIR/answer"
	otlp_start 127.0.0.1
	udp_ask client 10 10.1.0.2 7
	await_line "$WORDS" 'answers 503; events wait in'
	echo 200 >"$DIR/answer"
	await 20 exported send 20
	await_line "$WORDS" 'takes events again'
	echo 400 >"$DIR/answer"
	udp_ask client 10 10.1.0.2 7
	await_line "$WORDS" 'answers 400'
	echo 200 >"$DIR/answer"
	await 20 exported gap 1
	run_stop
	[ "$(jq -n '[inputs | select(.type == "gap") | .count] | add' "$DIR/records")" = 40 ]
	grep -q '40 events were not exported' "$WORDS"
}

# To a collector that speaks TLS, with these keys besides.
otlps_start() { # HOST KEYS
	run_start <<-EOF
	nodes: [netns:client, netns:server]
	trace: {otlp: {url: "https://$1:4318", $2}, write: {dir: $DIR/log}}
	EOF
}

@test "over TLS events arrive at a collector that shows the right certificate, by address and by name" {
	certificates_make 127.0.0.1
	certificate_make ca named serverAuth DNS:localhost
	collector_start "$DIR/server"
	otlps_start 127.0.0.1 "ca: $DIR/ca.crt"
	udp_ask client 600 10.1.0.2 7
	await 10 exported send 1200
	run_stop
	[ "$(grep -c Error "$DIR/collector.words")" = 0 ]
	kill -KILL "$COLLECTOR"
	collector_again "$DIR/named"
	: >"$DIR/records"
	otlps_start localhost "ca: $DIR/ca.crt"
	await 10 exported node-up 2
	run_stop
	# From the command line, and with what this machine believes, which is not our authority.
	trace_start -n netns:client --otlp https://localhost:4318 --otlp-ca "$DIR/ca.crt"
	: >"$DIR/records"
	udp_ask client 5 10.1.0.2 7
	await 10 exported send 5
	trace_stop
}

@test "a collector that is not the one, or not believed, gets nothing, and the events wait" {
	certificates_make 127.0.0.1
	authority_make other
	certificate_make ca elsewhere serverAuth IP:192.0.2.1,DNS:localhost
	for case in "elsewhere ca 127.0.0.1 not for this address" \
		"server other 127.0.0.1 not correctly signed" \
		"server ca localhost does not match with the expected CN"; do
		read -r certificate authority host words <<<"$case"
		collector_start "$DIR/$certificate"
		otlps_start "$host" "ca: $DIR/$authority.crt"
		udp_ask client 5 10.1.0.2 7
		await_line "$WORDS" "does not answer \(TLS: .*$words.*\); events wait"
		await 10 compgen -G "$STATE/otlp/*.json"
		run_stop
		kill -KILL "$COLLECTOR"
		[ ! -s "$DIR/records" ]
	done
	# One that speaks no TLS, and then the right one: it gets them all.
	collector_start
	otlps_start 127.0.0.1 "ca: $DIR/ca.crt"
	await_line "$WORDS" 'does not answer \(TLS: .*\); events wait'
	kill -KILL "$COLLECTOR"
	collector_again "$DIR/server"
	await 20 exported send 30
	await_line "$WORDS" 'takes events again'
	run_stop
}

@test "a collector that asks who sends is shown our certificate; files that are not right are refused" {
	certificates_make 127.0.0.1
	collector_start "$DIR/server" "$DIR/ca.crt"
	otlps_start 127.0.0.1 "ca: $DIR/ca.crt"
	udp_ask client 5 10.1.0.2 7
	await_line "$WORDS" 'does not answer'
	run_stop
	[ ! -s "$DIR/records" ]
	otlps_start 127.0.0.1 "ca: $DIR/ca.crt, cert: $DIR/client.crt, key: $DIR/client.key"
	await 10 exported send 10
	run_stop
	run_fails <<<"trace: {otlp: {url: 'https://127.0.0.1', cert: $DIR/client.crt}}"
	[ "$status" = 2 ]
	[[ $output == *'a certificate and its key go together'* ]]
	run_fails <<<"trace: {otlp: {url: 'http://127.0.0.1', ca: $DIR/ca.crt}}"
	[ "$status" = 2 ]
	[[ $output == *'certificates are for https://'* ]]
	run -2 timeout 20 "$TIDEMARK" trace --pin-dir "$PIN" --otlp-ca "$DIR/ca.crt"
	[[ $output == *'certificates are for https://'* ]]
	chmod 644 "$DIR/client.key"
	run_fails <<-EOF
	nodes: [netns:client]
	trace: {otlp: {url: "https://127.0.0.1", ca: $DIR/ca.crt, cert: $DIR/client.crt, key: $DIR/client.key}}
	EOF
	[ "$status" = 1 ]
	[[ $output == *'client.key: others can read it; chmod 600'* ]]
	[ ! -e "$PIN" ]
}

@test "the queue is bounded: the oldest go, counted" {
	run_start <<-EOF
	nodes: [netns:client, netns:server]
	trace: {otlp: {url: "http://127.0.0.1:4318", queue: $DIR/queue, queue_size: 600k}}
	EOF
	udp_ask client 1000 10.1.0.2 7
	await 20 bash -c "'$TIDEMARK' show daemon --json --state-dir '$STATE' --pin-dir '$PIN' |
		jq -e 'select(.sink == \"otlp\").lost >= 512'"
	[ "$(cat "$DIR"/queue/*.json | wc -c)" -le $((600 * 1024)) ]
	collector_start
	await 20 exported gap 1
	run_stop
	[ "$(jq -s '[.[] | select(.type == "gap") | .count] | add' "$DIR/records")" -ge 512 ]
	[ "$(jq -s '([.[] | select(.type == "gap") | .count] | add) +
		([.[] | select(.type != "gap")] | length)' "$DIR/records")" = 4002 ]
}
