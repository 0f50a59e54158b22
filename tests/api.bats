#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The daemon's API and metrics: what it answers, whom it refuses, and that others can read it.

# Variables of bats and of lab.bash:
# shellcheck disable=SC2030,SC2031,SC2153,SC2154

load lab.bash
load run.bash

setup() {
	lab_make
	node client server
	wire client server 1
	udp_echo_start server 10.1.0.2 7
}

teardown() {
	lab_clean
}

api_start() { # further lines of the section on stdin
	run_start <<-EOF
	nodes: [netns:client, netns:server]
	api:
	  listen: ["$API", "unix:$DIR/api"]
	$(cat)
	EOF
}

all_fit() {
	local all

	all=$(ask /v1/flows | jq '.flows | length')
	[ "$(ask "/v1/flows?limit=$all" | jq -c '[(.flows | length), .more]')" = "[$all,false]" ]
}

@test "nodes, flows and counters are what show and flows print" {
	api_start </dev/null
	udp_ask client 10 10.1.0.2 7
	[ "$(ask /v1/nodes | jq -r '.nodes[].node' | sort | xargs)" = 'client server' ]
	[ "$(ask /v1/flows | jq '[.flows[] | select(.proto == "udp") | .out_packets] | add')" = 20 ]
	ask /v1/flows | jq -cS '.flows[] | del(.idle_ns)' | sort >"$DIR/api.flows"
	tm flows --json | jq -cS 'del(.idle_ns)' | sort | diff "$DIR/api.flows" -
	ask /v1/counters | jq -cS '.counters[].counter' >"$DIR/api.counters"
	tm show counters --json | jq -cS .counter | diff "$DIR/api.counters" -
	[ "$(ask '/v1/flows?node=client' | jq -r '.flows[].node' | uniq)" = client ]
	await 10 all_fit # a node may just be saying hello to its neighbours
	[ "$(ask '/v1/flows?limit=1' | jq -c '[(.flows | length), .more]')" = '[1,true]' ]
	[ "$(ask /v1/daemon | jq .pid)" = "$RUN" ]
	run_stop
}

@test "what is wrong is refused with its status and a message in JSON" {
	api_start </dev/null
	[ "$(status_of /nothing)" = 404 ]
	[ "$(status_of '/v1/flows?limit=0')" = 400 ]
	[ "$(status_of '/v1/flows?limit=x')" = 400 ]
	[ "$(status_of '/v1/flows?node=nobody')" = 404 ]
	[ "$(status_of /v1/nodes -X POST -d x)" = 405 ]
	[ "$(ask /v1/nodes -X DELETE -D - | grep -ic '^Allow: GET')" = 1 ]
	[ "$(ask /nothing | jq -r .message)" = '/nothing: no such path; GET /openapi.json lists them' ]
	[ "$(status_of / -H "Host: evil.example")" = 404 ]
	[ "$(status_of /v1/nodes -H "Host: evil.example")" = 403 ]
	[ "$(status_of /v1/nodes -H "Host: localhost:9464")" = 200 ]
	[ "$(status_of /v1/nodes -H "Origin: http://evil.example")" = 403 ]
	[ "$(status_of /v1/nodes -H "Origin: null")" = 403 ]
	[ "$(head -c 2000000 /dev/zero | status_of /v1/nodes -X POST --data-binary @-)" = 413 ]
	[ "$(status_of /v1/nodes -H "X: $(printf %020000d 0)")" != 200 ]
	# Whatever is sent, it answers the next one.
	for text in 'GET' $'\x16\x03\x01\x02' 'GET / HTTP/9.9' 'POST / HTTP/1.1
Content-Length: -1'; do
		timeout 1 socat -t 0.2 - "TCP:$API" <<<"$text"$'\r\n\r' >/dev/null || :
	done
	[ "$(status_of /healthz)" = 200 ]
	[ "$(ask /v1/nodes -I | head -n 1 | tr -d '\r')" = 'HTTP/1.1 200 OK' ]
	run_stop
}

@test "the unix socket answers root and who is named, and nobody else" {
	api_start <<<'  uid: 1234'
	[ "$(curl -sS --unix-socket "$DIR/api" http://x/healthz | jq -r .status)" = ok ]
	chmod 711 "$DIR" "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR"/*/
	as() {
		setpriv --reuid "$1" --clear-groups curl -sS -o /dev/null -w '%{http_code}' \
			--unix-socket "$DIR/api" http://x/healthz
	}
	[ "$(as 1234)" = 200 ]
	[ "$(as 1235)" = 403 ]
	run_stop
	[ ! -e "$DIR/api" ]
	api_start </dev/null
	[ "$(stat -c %a "$DIR/api")" = 600 ]
	run_stop
}

@test "a token is asked for, on every path but that of health" {
	head -c 24 /dev/urandom | base64 >"$DIR/token"
	run_fails <<-EOF
	nodes: [netns:client]
	api: {listen: ["0.0.0.0:9464"], token: $DIR/token}
	EOF
	[ "$status" = 1 ]
	[[ $output == *"others can read it; chmod 600"* ]]
	chmod 600 "$DIR/token"
	run_start <<-EOF
	nodes: [netns:client]
	api: {listen: ["0.0.0.0:9464"], token: $DIR/token}
	EOF
	[ "$(status_of /healthz)" = 200 ]
	[ "$(status_of /v1/nodes)" = 401 ]
	[ "$(status_of /metrics)" = 401 ]
	[ "$(status_of /v1/nodes -H 'Authorization: Bearer x')" = 401 ]
	[ "$(status_of /v1/nodes -H "Authorization: Bearer $(<"$DIR/token")x")" = 401 ]
	[ "$(status_of /v1/nodes -H "Authorization: Bearer $(<"$DIR/token")")" = 200 ]
	run_stop
}

@test "the description is OpenAPI, and every answer is as it says" {
	api_start <<<$'mark: {flows: marked}\nrecord: {dir: '"$DIR/record}"
	curl -sf "http://$API/flow" -d '{"State":"start","Src":"[2001:db8::1]:1","Dst":"[2001:db8::2]:2",
		"Experiment":"atlas","Activity":9}' >"$DIR/posted"
	id=$(ask /flow | jq '.flows[0].Id')
	udp_ask client 10 10.1.0.2 7
	ask /openapi.json >"$DIR/openapi"
	python3 - "$DIR/openapi" "http://$API" "$id" "$DIR/posted" <<-'EOF'
	import json, sys, urllib.error, urllib.request
	from jsonschema import Draft4Validator as Validator  # what OpenAPI 3.0 builds on
	api = json.load(open(sys.argv[1]))
	assert api["openapi"].startswith("3.0.") and api["info"]["title"] and api["info"]["version"]
	def resolve(node):
	    if isinstance(node, list):
	        return [resolve(x) for x in node]
	    if not isinstance(node, dict):
	        return node
	    if "$ref" in node:
	        at = api
	        for key in node["$ref"].split("/")[1:]:
	            at = at[key]
	        return resolve(at)
	    return {k: resolve(v) for k, v in node.items()}
	seen = set()
	for path, item in api["paths"].items():
	    assert path.startswith("/"), path
	    for method, operation in item.items():
	        assert operation["operationId"] not in seen and not seen.add(operation["operationId"])
	        assert operation["summary"] and operation["responses"]
	        for response in resolve(operation["responses"]).values():
	            assert response["description"]
	        for parameter in resolve(operation.get("parameters", [])):
	            assert parameter["in"] in ("query", "path") and parameter["schema"]
        if method != "get" and not path.startswith("/flow"):  # of something that is not there
	            request = urllib.request.Request(sys.argv[2] + path.replace("{id}", "7"),
	                                             method=method.upper())
	            try:
	                urllib.request.urlopen(request)
	                assert False, path
	            except urllib.error.HTTPError as error:
	                assert error.code == 404 and "404" in operation["responses"]
	            continue
	        content = resolve(operation["responses"]["200"])["content"]
	        if method == "post":
	            schema = resolve(operation["requestBody"])["content"]["application/json"]["schema"]
	            Validator(schema).validate(json.load(open(sys.argv[4])))
	            continue
	        url = sys.argv[2] + path.replace("{id}", sys.argv[3])
	        answer = urllib.request.urlopen(urllib.request.Request(url, method=method.upper()))
	        kind = answer.headers.get_content_type()
	        assert kind in content, (path, kind)
	        if kind == "application/json":
	            schema = content[kind]["schema"]
	            Validator.check_schema(schema)
	            Validator(schema).validate(json.load(answer))
	assert len(seen) >= 11
	EOF
	run_stop
}

@test "metrics pass promtool, and count what happens" {
	api_start </dev/null
	udp_ask client 10 10.1.0.2 7
	await 10 bash -c "curl -s $API/metrics | grep -qE '^tidemark_events_total 4[0-9]$'"
	ask /metrics >"$DIR/metrics"
	promtool check metrics <"$DIR/metrics"
	[ "$(metric tidemark_nodes)" = 2 ]
	[ "$(metric 'tidemark_flows{table="flows"}')" = 2 ]
	[ "$(metric 'tidemark_stage_packets_total{stage="flow",dir="out"}')" -ge 20 ]
	[ "$(metric 'tidemark_reasons_total{reason="event",stage="clock",dir="out"}')" -ge 20 ]
	grep -q '^tidemark_clock_ahead_seconds{node="client"} 0\.' "$DIR/metrics"
	run_stop
}

@test "metrics: off is obeyed, and summary leaves out the nodes" {
	api_start <<<'metrics: {off: true}'
	[ "$(status_of /metrics)" = 404 ]
	run_stop
	api_start <<<'metrics: {summary: true}'
	[ "$(metric tidemark_nodes)" = 2 ]
	[ "$(ask /metrics | grep -c 'node=')" = 0 ]
	run_stop
}

@test "a real Prometheus scrapes them" {
	api_start </dev/null
	udp_ask client 10 10.1.0.2 7
	cat >"$DIR/prometheus.yml" <<-EOF
	global: {scrape_interval: 1s}
	scrape_configs: [{job_name: tidemark, static_configs: [{targets: ["$API"]}]}]
	EOF
	setsid prometheus --config.file="$DIR/prometheus.yml" --storage.tsdb.path="$DIR/tsdb" \
		--web.listen-address=127.0.0.1:9090 >"$DIR/prometheus.out" 2>&1 3>&- &
	PIDS+=($!)
	scraped() {
		curl -sG http://127.0.0.1:9090/api/v1/query --data-urlencode "query=$1" |
			jq -re '.data.result[0].value[1]'
	}
	says() {
		[ "$(scraped "$1")" = "$2" ]
	}
	await 30 says tidemark_nodes 2
	await 30 says 'up{job="tidemark"}' 1
	await 30 says tidemark_build_info 1
	run_stop
}
