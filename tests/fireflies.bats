#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Flows with marks are told of: to destinations, collectors, metrics; and may be told by others.
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

@test "a marked connection is told to its destination and to the collectors, start to end" {
	collector_start "$DIR/at-right" :: 10514 right
	collector_start "$DIR/collected" 127.0.0.1 10600
	server right 1094
	run_start <<-EOF
	fireflies: {collectors: ["127.0.0.1:10600", "127.0.0.1:10600"]}
	EOF
	mark add --proto tcp --dst :1094 --experiment atlas --activity 9
	connect left fd00:1::2 1094 1 100000
	connect left 10.1.0.2 1094 1 777
	await 10 has_lines "$DIR/at-right" '"state":"end"' 2
	await 10 has_lines "$DIR/collected" '"state":"end"' 2
	judge "$DIR/at-right" "$DIR/collected"
	# Each once to each, for equal collectors are one.
	[ "$(lines "$DIR/collected" '"state":"start"')" = 2 ]
	[ "$(lines "$DIR/at-right" '"state":"start"')" = 2 ]
	json_of "$DIR/collected" '."flow-lifecycle".state == "end"' >"$DIR/ends"
	jq -es 'length == 2
		and all(.context."experiment-id" == 2 and .context."activity-id" == 9
			and .context.application == "python3" and ."flow-id"."dst-port" == 1094
			and .netlink.cong.algorithm != "" and .netlink.tcpInfo.rtt > 0
			and .netlink.tcpInfo.pMtu == 1500)
		and .[0].usage == {received: 7, sent: 100000} and .[1].usage.sent == 777
		and .[0]."flow-id"."src-ip" == "fd00:1::1"
		and .[1]."flow-id"."src-ip" == "10.1.0.1"' "$DIR/ends" || {
		cat "$DIR/ends" >&2
		false
	}
	run_stop
}

@test "what has no mark is told to nobody" {
	collector_start "$DIR/collected" 127.0.0.1 10600
	server right 1094
	server right 1095
	run_start <<-EOF
	fireflies: {destination: false, collectors: ["127.0.0.1:10600"]}
	EOF
	mark add --proto tcp --dst :1094 --experiment 2 --activity 9
	connect left fd00:1::2 1095 20 100
	connect left fd00:1::2 1094 1 100
	await 10 has_lines "$DIR/collected" '"state":"end"' 1
	[ "$(lines "$DIR/collected" '"dst-port":1095')" = 0 ]
	[ "$(lines "$DIR/collected" '')" = 2 ]
	run_stop
}

@test "ten thousand connections of a moment each have a start and an end, all well-formed" {
	collector_start "$DIR/collected" 127.0.0.1 10600
	server right 1094
	run_start <<-EOF
	fireflies: {destination: false, collectors: ["127.0.0.1:10600"]}
	EOF
	mark add --proto tcp --dst :1094 --experiment 2 --activity 9
	connect left fd00:1::2 1094 5000 10
	connect left 10.1.0.2 1094 5000 10
	await 20 has_lines "$DIR/collected" '"state":"end"' 10000 || judge "$DIR/collected"
	judge "$DIR/collected" >"$DIR/counts"
	jq -e '.bad == 0 and .start == 10000 and .end == 10000 and .whole == 10000' "$DIR/counts" || {
		cat "$DIR/counts" >&2
		false
	}
	run_stop
}

@test "a flow of UDP goes on being told of while it lives, and ends when it is idle" {
	collector_start "$DIR/collected" 127.0.0.1 10600
	udp_echo_start right :: 4433
	run_start <<-EOF
	period: 200ms
	idle: 1s
	fireflies: {destination: false, collectors: ["127.0.0.1:10600"]}
	EOF
	mark add --proto udp --dst :4433 --experiment 3 --activity 1
	udp_ask left 50 fd00:1::2 4433
	await 10 has_lines "$DIR/collected" '"state":"end"' 1
	judge "$DIR/collected"
	[ "$(lines "$DIR/collected" '"state":"start"')" = 1 ]
	has_lines "$DIR/collected" '"state":"ongoing"' 3
	json_of "$DIR/collected" '."flow-lifecycle".state == "end"' |
		jq -e '."flow-id".protocol == "udp" and .usage.sent == .usage.received
			and .usage.sent > 5000'
	run_stop
}

@test "fireflies do not tell of fireflies" {
	collector_start "$DIR/at-right" :: 10514 right
	udp_echo_start right :: 4433
	run_start <<-EOF
	fireflies: {destination: true}
	EOF
	mark add --experiment 2 --activity 9 --dst fd00:1::/64
	udp_ask left 3 fd00:1::2 4433
	await 10 has_lines "$DIR/at-right" '"dst-port":4433' 3
	[ "$(lines "$DIR/at-right" '"(src|dst)-port":10514')" = 0 ]
	run_stop
}

@test "behind NAT the address is the one that others see: a map, STUN, HTTP" {
	collector_start "$DIR/collected" 127.0.0.1 10600
	server right 1094
	cat >"$DIR/stun.py" <<-'PY'
	import socket, struct
	s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	s.bind(("127.0.0.1", 3478))
	while True:
	    data, peer = s.recvfrom(2000)
	    kind, size, cookie = struct.unpack(">HHI", data[:8])
	    assert (kind, cookie) == (1, 0x2112A442)
	    at = int.from_bytes(socket.inet_aton("192.0.2.77"), "big") ^ cookie
	    answer = struct.pack(">HHBBHI", 0x20, 8, 0, 1, peer[1] ^ (cookie >> 16), at)
	    s.sendto(struct.pack(">HHI", 0x101, len(answer), cookie) + data[8:20] + answer, peer)
	PY
	python3 "$DIR/stun.py" </dev/null >&2 3>&- &
	PIDS+=("$!")
	await 10 udp_bound 3478
	cat >"$DIR/page.py" <<-'PY'
	import http.server, socketserver
	class Answer(http.server.BaseHTTPRequestHandler):
	    def do_GET(self):
	        self.send_response(200 if self.path == "/ip" else 404)
	        self.end_headers()
	        self.wfile.write(b"2001:db8::77\n")
	socketserver.TCPServer(("127.0.0.1", 8087), Answer).serve_forever()
	PY
	python3 "$DIR/page.py" </dev/null >"$DIR/http.out" 2>&1 3>&- &
	PIDS+=("$!")
	await 10 eval '[ -n "$(ss -Hltn "sport = :8087")" ]'
	run_start <<-EOF
	fireflies:
	  destination: false
	  collectors: ["127.0.0.1:10600"]
	  address: {stun: ["127.0.0.1:3478"], http: ["http://127.0.0.1:8087/ip"]}
	EOF
	await_line "$DIR/run.words" 'public address 192.0.2.77, says STUN'
	await_line "$DIR/run.words" 'public address 2001:db8::77, says 127.0.0.1'
	mark add --proto tcp --dst :1094 --experiment 2 --activity 9
	connect left 10.1.0.2 1094 1 10
	connect left fd00:1::2 1094 1 10
	await 10 has_lines "$DIR/collected" '"src-ip":"192.0.2.77"' 2
	await 10 has_lines "$DIR/collected" '"src-ip":"2001:db8::77"' 2
	sed -i 's/address: .*/address: {map: ["10.1.0.1=198.51.100.1"]}/' "$DIR/run.yaml"
	kill -HUP "$RUN"
	await_line "$DIR/run.words" 'reloaded'
	connect left 10.1.0.2 1094 1 10
	await 10 has_lines "$DIR/collected" '"src-ip":"198.51.100.1"' 2
	run_stop
}

@test "metrics have a series for each flow, within bounds, and sums by name" {
	server right 1094
	run_start <<-EOF
	series: 2
	period: 200ms
	EOF
	mark add --proto tcp --dst :1094 --experiment atlas --activity 9
	in_node left python3 -c '
import socket, sys
held = []
for i in range(3):
    c = socket.create_connection(("fd00:1::2", 1094))
    c.sendall(b"x" * 50000)
    held.append(c)
print("held", flush=True)
sys.stdin.read()
' < <(tail -f /dev/null --pid=$$) >"$DIR/held" 3>&- &
	PIDS+=("$!")
	await_line "$DIR/held" held
	await 10 eval 'api GET /metrics | grep -q "tidemark_reported_flows 3"'
	api GET /metrics >"$DIR/metrics"
	[ "$(lines "$DIR/metrics" '^tidemark_flow_tcp_rtt_seconds\{')" = 2 ]
	[ "$(lines "$DIR/metrics" '^tidemark_flow_bytes_total\{.*src="fd00:1::1".*sport="[0-9]+".*proto="tcp",node="left",experiment="atlas".*dir="out"\} [0-9]+$')" = 2 ]
	grep -q '^tidemark_other_flows 1$' "$DIR/metrics"
	grep -qE '^tidemark_mark_flows\{experiment="atlas",activity="[^"]+"\} 3$' "$DIR/metrics"
	promtool check metrics <"$DIR/metrics"
	run_stop
}

@test "a real Prometheus has each flow and the sums, by name" {
	server right 1094
	run_start <<-EOF
	period: 200ms
	rules:
	  - {proto: tcp, dst: ":1094", experiment: atlas, activity: 9}
	EOF
	sed -i 's|^api: .*|api: {listen: ["unix:'"$DIR/api"'", "127.0.0.1:9464"]}|' "$DIR/run.yaml"
	kill -HUP "$RUN"
	await_line "$DIR/run.words" reloaded
	in_node left python3 -c '
import socket, sys
held = [socket.create_connection(("fd00:1::2", 1094)) for i in range(3)]
for i, c in enumerate(held):
    c.sendall(b"x" * 10000 * (i + 1))
print("held", flush=True)
sys.stdin.read()
' < <(tail -f /dev/null --pid=$$) >"$DIR/held" 3>&- &
	PIDS+=("$!")
	await_line "$DIR/held" held
	await 10 eval 'api GET /metrics | grep -q "tidemark_reported_flows 3"'
	api GET /metrics >"$DIR/metrics"
	promtool check metrics <"$DIR/metrics"
	cat >"$DIR/prometheus.yml" <<-EOF
	global: {scrape_interval: 1s}
	scrape_configs: [{job_name: tidemark, static_configs: [{targets: ["127.0.0.1:9464"]}]}]
	EOF
	setsid prometheus --config.file="$DIR/prometheus.yml" --storage.tsdb.path="$DIR/tsdb" \
		--web.listen-address=127.0.0.1:9091 >"$DIR/prometheus.out" 2>&1 3>&- &
	PIDS+=("$!")
	says() { # QUERY VALUE
		[ "$(curl -sG http://127.0.0.1:9091/api/v1/query --data-urlencode "query=$1" |
			jq -re '.data.result[0].value[1]')" = "$2" ]
	}
	await 30 says 'tidemark_mark_flows{experiment="atlas",activity="Debug"}' 3
	await 30 says 'count(tidemark_flow_tcp_rtt_seconds{experiment="atlas",dport="1094",node="left"})' 3
	# What the flows carried is what their experiment did.
	await 30 says 'sum(tidemark_flow_bytes_total) == bool sum(tidemark_mark_bytes_total)' 1
	await 30 says 'sum(tidemark_mark_bytes_total{experiment="atlas",dir="out"}) > bool 60000' 1
	run_stop
}

@test "a pipe takes a hundred thousand lines in one write, and says which is wrong" {
	run_start <<-EOF
	pipes: [{path: $DIR/flows}]
	EOF
	[ -p "$DIR/flows" ] && [ "$(stat -c %a "$DIR/flows")" = 600 ]
	python3 - "$DIR/flows" <<-'PY'
	import os, sys
	lines = [f"start tcp 2001:db8::1 {1 + i % 60000} 2001:db8::{2 + i // 60000:x} 5777 2 9\n"
	         for i in range(100000)]
	data = "".join(lines).encode()
	fd = os.open(sys.argv[1], os.O_WRONLY)
	while data:
	    data = data[os.write(fd, data):]
	os.write(fd, b"start tcp 2001:db8::1 1 2001:db8::2 5777 512 9\nnonsense\n\n")
	os.write(fd, b"end tcp 2001:db8::1 1 2001:db8::2 5777 2 9\n")
	PY
	await 30 eval 'api GET /metrics | grep -q "^tidemark_marks_ended_total 1$"'
	api GET /metrics | grep -q '^tidemark_marks_started_total 100000$'
	api GET /metrics | grep -q '^tidemark_marks_refused_total 2$'
	grep -q 'line 100001: .*512' "$DIR/run.words" || { cat "$DIR/run.words" >&2; false; }
	[ "$(mark list --json | wc -l)" = 99999 ]
	run_stop
	[ ! -e "$DIR/flows" ]
}

@test "sixteen writers at once all get through a pipe, and none waits a tenth of a second" {
	run_start <<-EOF
	pipes: [{path: $DIR/flows, anybody: true}]
	EOF
	python3 - "$DIR/flows" <<-'PY'
	import os, sys, time
	readers = []
	for w in range(16):
	    r, s = os.pipe()
	    if os.fork() == 0:
	        fd, worst = os.open(sys.argv[1], os.O_WRONLY), 0
	        for i in range(1000):
	            line = f"start udp 2001:db8::{w + 1:x} {i + 1} 2001:db8:1::1 443 3 1\n".encode()
	            began = time.monotonic()
	            assert os.write(fd, line) == len(line)
	            worst = max(worst, time.monotonic() - began)
	        os.write(s, b"%f" % worst)
	        os._exit(0)
	    readers.append(r)
	worst = max(float(os.read(r, 100)) for r in readers)
	print("worst wait", worst)
	sys.exit(worst > 0.1)
	PY
	await 30 eval 'api GET /metrics | grep -q "^tidemark_marks_started_total 16000$"'
	api GET /metrics | grep -q '^tidemark_marks_refused_total 0$'
	run_stop
}

@test "POST /flow takes what flowd-go takes and refuses what is out of range" {
	run_start <<-EOF
	flows: marked
	EOF
	api POST /flow -d '{"State":2,"Protocol":0,"Family":10,"Src":"[2001:db8::1]:2345",
		"Dst":"[2001:db8::2]:5777","Experiment":2,"Activity":9,
		"StartTs":"2026-01-01T00:00:00Z","Application":"x"}' -w '%{http_code}' | grep -q 200
	mark list --json | jq -es 'length == 1 and .[0].experiment == "atlas"'
	api GET /flow | jq -e '.flows | length == 1 and .[0].Src == "[2001:db8::1]:2345"'
	id=$(api GET /flow | jq '.flows[0].Id')
	api GET "/flow/$id" | jq -e '.Experiment == 2 and .ExperimentName == "atlas"'
	for body in '{"State":99}' '{' '[]' '{"State":2,"Src":"[::1]:1","Dst":"[::1]:2",
		"Experiment":70000,"Activity":300}' '{"State":2,"Src":"[::1]:0","Dst":"[::1]:2",
		"Experiment":1,"Activity":1}' '{"State":2,"Src":"[::1]:1","Dst":"10.0.0.1:2",
		"Experiment":1,"Activity":1}'; do
		api POST /flow -d "$body" -w ' %{http_code}' >"$DIR/refused"
		grep -q '"message".* 400$' "$DIR/refused"
	done
	[ "$(mark list --json | wc -l)" = 1 ]
	api DELETE "/flow/$id" -w ' %{http_code}' | grep -q ' 200$'
	api DELETE "/flow/$id" -w ' %{http_code}' | grep -q ' 404$'
	[ -z "$(mark list --json)" ]
	run_stop
}

@test "a firefly received marks the flow it tells of" {
	server right 1094
	run_start <<-EOF
	receive: ["127.0.0.1:10514"]
	EOF
	python3 - <<-'PY'
	import json, socket
	s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	what = {"version": 1, "flow-lifecycle": {"state": "start", "start-time": "2026-01-01T00:00:00Z"},
	        "flow-id": {"afi": "ipv6", "src-ip": "fd00:1::1", "dst-ip": "fd00:1::2",
	                    "protocol": "tcp", "src-port": 40001, "dst-port": 1094},
	        "context": {"experiment-id": 4, "activity-id": 7}}
	to = ("127.0.0.1", 10514)
	s.sendto(b"<134>1 - host app - firefly-json - " + json.dumps(what).encode(), to)
	s.sendto(b"no firefly", to)
	PY
	await 10 eval 'api GET /metrics | grep -q "^tidemark_marks_refused_total 1$"'
	mark list --json | jq -es 'length == 1 and .[0].experiment == "lhcb"'
	run_stop
}

@test "a firefly received goes on as it is to whom relay lists, and nothing else does" {
	collector_start "$DIR/first" 127.0.0.1 10601
	collector_start "$DIR/second" ::1 10602
	run_start <<-EOF
	receive: ["127.0.0.1:10514"]
	relay: ["127.0.0.1:10601", "[::1]:10602", "127.0.0.1:10603"]
	EOF
	python3 - <<-'PY' >"$DIR/sent"
	import socket
	s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	for port in range(1, 21):
	    # Spaces, an order of its own, a key nobody knows: all of it goes on.
	    what = ('<134>1 - somewhere app - firefly-json - {"more": [1,  2], "context": {"activity-id": 7,'
	            '"experiment-id":4}, "version": 1, "flow-id": {"afi": "ipv6", "src-ip": "2001:db8::1",'
	            ' "dst-ip": "2001:db8::2", "protocol": "tcp", "src-port": %d, "dst-port": 1094},'
	            '"flow-lifecycle": {"state": "start", "start-time": "2026-01-01T00:00:00Z"}}' % port)
	    print(what)
	    s.sendto(what.encode(), ("127.0.0.1", 10514))
	    s.sendto(b"no firefly", ("127.0.0.1", 10514))
	PY
	for file in first second; do
		await 10 has_lines "$DIR/$file" firefly-json 20
		diff "$DIR/sent" "$DIR/$file"
	done
	# Nobody listens at the third, and nobody waited for that.
	api GET /metrics | grep -q '^tidemark_fireflies_relayed_total 60$'
	run_stop
	sed -i 's/relay: .*/relay: ["127.0.0.1:10514"]/' "$DIR/run.yaml"
	run -2 "$TIDEMARK" run -c "$DIR/run.yaml" --check-config
	[[ $output == *'mark.relay: 127.0.0.1:10514: is received here'* ]]
}

@test "a daemon that is killed leaves flows marked, and the next one goes on telling of them" {
	collector_start "$DIR/collected" 127.0.0.1 10600
	server right 1094
	run_start <<-EOF
	fireflies: {destination: false, collectors: ["127.0.0.1:10600"]}
	EOF
	mark add --proto tcp --dst :1094 --experiment 2 --activity 9
	mkfifo "$DIR/go"
	in_node left python3 -c '
import socket, sys
c = socket.create_connection(("fd00:1::2", 1094))
c.sendall(b"x" * 1000)
open(sys.argv[1]).read()
c.close()
' "$DIR/go" </dev/null 3>&- &
	PIDS+=("$!")
	await 10 has_lines "$DIR/collected" '"state":"start"' 1
	kill -KILL "$RUN"
	wait "$RUN" || true
	run_start <<-EOF
	fireflies: {destination: false, collectors: ["127.0.0.1:10600"]}
	EOF
	await 10 has_lines "$DIR/collected" '"state":"start"' 2
	: >"$DIR/go"
	await 10 has_lines "$DIR/collected" '"state":"end"' 1
	judge "$DIR/collected"
	json_of "$DIR/collected" 'true' | jq -es 'map(."flow-lifecycle"."start-time") | unique | length == 1'
	run_stop
}

@test "a section mark with a mistake is refused, with its place and the remedy" {
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
	check 'bad.yaml:2:28: .*or a host.s name' <<<'fireflies: {collectors: [collector_example_org:0]}'
	check 'nobody to send to' <<<'fireflies: {destination: false}'
	check 'lean, full or compatible' <<<'fireflies: {form: fat}'
	check 'not an absolute path' <<<'pipes: [{path: np}]'
	check 'marked or tcp' <<<'flows: all'
	check 'did you mean fireflies' <<<'fireflys: {}'
	check 'two addresses of one family' <<<'fireflies: {address: {map: [10.0.0.1]}}'
}
