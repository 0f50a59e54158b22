#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Marks: real programs' traffic, captured on the wire and decoded by tshark.

load lab.bash

setup() {
	lab_make
	node a b
	wire a b 1
}

teardown() {
	lab_clean
}

mark() {
	tm mark "$@"
}

# What arrives at b, until capture_stop.
capture_start() { # [FILTER]
	PCAP=$DIR/wire.pcap
	start b tcpdump -i w1 -U --immediate-mode -s 200 -B 65536 -w "$PCAP" \
		"${1:-ip6} or udp port 65000"
	CAPTURE=$PID
	await_line "$DIR/tcpdump.out" 'listening on'
}

# A last packet, from b itself: what came before it has been written when it has.
capture_stop() {
	echo the-last-one | in_node b socat -u - 'UDP6-SENDTO:[fd00:1::1]:65000'
	await 10 grep -qa the-last-one "$PCAP" && kill -INT "$CAPTURE" && await_end "$CAPTURE"
}

fields() { # FILTER FIELD...
	local filter=$1 args=()

	shift
	for field; do
		args+=(-e "$field")
	done
	tshark -r "$PCAP" -Y "$filter" -T fields "${args[@]}" 2>/dev/null
}

# Experiment and activity of a flow label, by arithmetic of our own.
label_means() { # LABEL
	python3 - "$1" <<-'EOF'
	import sys
	label = int(sys.argv[1], 0)
	print(int(format(label >> 9 & 511, "09b")[::-1], 2), label >> 2 & 63)
	EOF
}

labels() { # FILTER: those seen, by meaning
	local label

	for label in $(fields "$1" ipv6.flow | sort -u); do
		label_means "$label"
	done | sort -u
}

serve() { # NODE PORT
	start "$1" python3 -c '
import http.server, socket, sys
class V6(http.server.HTTPServer):
    address_family = socket.AF_INET6
V6(("::", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()' "$2"
	await 10 listens "$1" "$2"
}

@test "curl's connection is labelled from its SYN to its last packet" {
	serve b 80
	tm up -n a
	mark add --proto tcp --dst :80 --experiment cms --activity 14
	capture_start 'ip6 and tcp'
	in_node a curl -gsf 'http://[fd00:1::2]/' >/dev/null
	capture_stop
	[ "$(labels 'ipv6.src == fd00:1::1')" = '3 14' ]
	# One flow, one label: entropy is drawn once.
	[ "$(fields 'ipv6.src == fd00:1::1' ipv6.flow | sort -u | wc -l)" = 1 ]
	[ -n "$(fields 'ipv6.src == fd00:1::1 && tcp.flags.syn == 1' ipv6.flow)" ]
	# What the other sends is its own business.
	[ "$(labels 'ipv6.src == fd00:1::2')" != '3 14' ]
	[ -z "$(fields 'tcp.checksum.status == 0' frame.number)" ]
}

@test "two sources to one destination and port have marks of their own" {
	udp_echo_start b :: 7777
	ip -n a addr add fd00:1::11/64 dev w1 nodad
	tm up -n a
	mark add --proto udp --src fd00:1::1 --dst :7777 --experiment 2 --activity 9
	mark add --proto udp --src fd00:1::11 --dst :7777 --experiment 3 --activity 14
	capture_start 'ip6 and udp'
	for from in fd00:1::1 fd00:1::11; do
		echo x | in_node a socat -t 0.1 - "UDP6:[fd00:1::2]:7777,bind=[$from]"
	done
	capture_stop
	[ "$(labels 'ipv6.src == fd00:1::1')" = '2 9' ]
	[ "$(labels 'ipv6.src == fd00:1::11')" = '3 14' ]
}

@test "iperf3 over MTU 1500: every data segment carries the hop-by-hop option" {
	start b iperf3 -s -1
	await 10 listens b 5201
	# Segments as they are on a wire: cut before they are captured.
	in_node a ethtool -K w1 tso off gso off >/dev/null
	in_node b ethtool -K w1 gro off >/dev/null
	tm up -n a
	mark add --proto tcp --dst :5201 --experiment cms --activity 14 --how hop-by-hop
	capture_start 'ip6 and src host fd00:1::1'
	in_node a iperf3 -6 -c fd00:1::2 -n 20M >/dev/null
	capture_stop
	python3 - "$PCAP" <<-'EOF'
	import struct, sys
	data = open(sys.argv[1], "rb").read()
	at, segments, marked, full, longest = 24, 0, 0, 0, 0
	while at < len(data):
	    _, _, kept, length = struct.unpack_from("<IIII", data, at)
	    p = data[at + 16:at + 16 + kept]
	    at += 16 + kept
	    hop = p[20] == 0
	    tcp = 54 + (8 if hop else 0)
	    if (p[54] if hop else p[20]) != 6:
	        continue
	    payload = length - tcp - (p[tcp + 12] >> 4) * 4
	    longest = max(longest, length - 14)
	    if payload <= 0:
	        continue
	    segments += 1
	    full += length - 14 == 1500
	    marked += hop and p[54:62] == bytes((6, 0, 0x1e, 3, 0, 3, 14, 0))
	print(f"# {marked} of {segments} segments, {full} of them full, longest {longest}", file=sys.stderr)
	sys.exit(not (segments > 10000 and marked >= segments * 0.99 and full > segments * 0.9
	              and longest == 1500))
	EOF
	[ "$(counter mark_mss)" -ge 1 ]
}

@test "segments in one buffer (GSO) are cut right, with every way to mark" {
	local how

	tm up -n a
	head -c 50000000 /dev/urandom >"$DIR/sent"
	for how in hop-by-hop destination hop-by-hop+destination; do
		start b socat -u TCP6-LISTEN:5201 "CREATE:$DIR/received"
		await 10 listens b 5201
		mark add --dst :5201 --experiment cms --activity 14 --how $how
		in_node a socat -u "OPEN:$DIR/sent" 'TCP6:[fd00:1::2]:5201'
		await_end "$PID"
		cmp "$DIR/sent" "$DIR/received"
	done
	[ "$(counter mark_failed)" = 0 ]
	[ "$(counter mark_header)" -gt 100 ]
}

@test "tshark decodes the option in each kind of header" {
	udp_echo_start b :: 7777
	tm up -n a
	for how in hop-by-hop destination hop-by-hop+destination; do
		mark add --proto udp --dst :7777 --experiment 2 --activity 9 --how $how
		capture_start 'ip6 and src host fd00:1::1'
		udp_ask a 3 fd00:1::2 7777
		capture_stop
		case $how in
		hop-by-hop) filter='ipv6.hopopts && !ipv6.dstopts' ;;
		destination) filter='!ipv6.hopopts && ipv6.dstopts' ;;
		*) filter='ipv6.hopopts && ipv6.dstopts' ;;
		esac
		[ "$(fields "$filter && udp.dstport == 7777" ipv6.opt.type | tr ',' '\n' |
			grep -c '^0x1e$')" -ge 3 ]
		[ "$(fields 'udp.dstport == 7777' ipv6.opt.experimental | tr ',' '\n' |
			sort -u)" = 000209 ]
	done
}

@test "a VLAN's tag that is in the packet is on the wire as it was" {
	tm up -n a
	mark add --dst :9 --experiment 2 --activity 9 --how hop-by-hop
	capture_start 'greater 1'
	in_node a python3 - <<-'EOF'
	import socket, struct
	def frame(*tags):
	    ip = struct.pack("!IHBB", 6 << 28 | 0xbb << 20, 12, 17, 64)
	    ip += socket.inet_pton(socket.AF_INET6, "fd00:1::1")
	    ip += socket.inet_pton(socket.AF_INET6, "fd00:1::2")
	    vlan = b"".join(struct.pack("!HH", *tag) for tag in tags)
	    return b"\xff" * 6 + b"\x02" * 6 + vlan + struct.pack("!H", 0x86dd) + ip + \
	        struct.pack("!HHHH", 7, 9, 12, 0) + b"data"
	s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
	s.bind(("w1", 0))
	s.send(frame((0x8100, 0x602a)))
	s.send(frame((0x88a8, 7), (0x8100, 42)))
	EOF
	await 10 [ "$(counter mark_header)" = 2 ]
	capture_stop
	python3 - "$PCAP" <<-'EOF'
	import struct, sys
	data, at, seen = open(sys.argv[1], "rb").read(), 24, []
	while at < len(data):
	    kept = struct.unpack_from("<I", data, at + 8)[0]
	    seen.append(data[at + 16:at + 16 + kept])
	    at += 16 + kept
	seen = [p[12:] for p in seen if p[6:12] == b"\x02" * 6]
	option = bytes((17, 0, 0x1e, 3, 0, 2, 9, 0))
	tags = [bytes.fromhex("8100602a86dd"), bytes.fromhex("88a800078100002a86dd")]
	assert len(seen) == 2, seen
	for p, tag in zip(seen, tags):
	    assert p.startswith(tag), (p.hex(), tag.hex())
	    ip = p[len(tag):]
	    assert ip[:8] == bytes.fromhex("6bb0000000140040"), ip.hex()
	    assert ip[40:48] == option and ip[48:] == struct.pack("!HHHH", 7, 9, 12, 0) + b"data"
	EOF
}

@test "a rule asks whose socket it is: user, process, cgroup, node" {
	local group

	udp_echo_start b :: 7777
	group=$(findmnt -nt cgroup2 -o TARGET | head -n 1)/tidemark-mark-$$
	mkdir "$group" "$group/below"
	tm up -n a -n b
	mark add --uid nobody --experiment 2 --activity 1
	mark add --comm marked --experiment 2 --activity 2
	mark add --cgroup "$group" --experiment 2 --activity 3
	mark add --node b --experiment 2 --activity 4
	capture_start 'ip6 and udp'
	cp "$(command -v socat)" "$DIR/marked"
	say() { # PORT COMMAND...
		echo x | in_node a "${@:2}" -t 0.2 - "UDP6:[fd00:1::2]:7777,sourceport=$1"
	}
	say 11001 setpriv --reuid nobody --clear-groups socat
	say 11002 "$DIR/marked"
	say 11003 sh -c "echo \$\$ >$group/cgroup.procs; exec socat \"\$@\"" -
	say 11004 sh -c "echo \$\$ >$group/below/cgroup.procs; exec socat \"\$@\"" -
	say 11005 socat
	capture_stop
	rmdir "$group/below" "$group"
	[ "$(labels 'udp.srcport == 11001')" = '2 1' ]
	[ "$(labels 'udp.srcport == 11002')" = '2 2' ]
	[ "$(labels 'udp.srcport == 11003')" = '2 3' ]
	[ "$(labels 'udp.srcport == 11004')" = '2 3' ]
	[[ "$(labels 'udp.srcport == 11005')" != 2\ * ]]
	[ "$(labels 'udp.dstport == 11005')" = '2 4' ]
}

@test "what a server opens while it serves a marked flow inherits the mark" {
	node c
	wire b c 2
	serve c 80
	# Asks c for every request.
	start b python3 -c '
import socket
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("::", 8080)); s.listen()
while True:
    c, _ = s.accept()
    c.recv(4096)
    b = socket.create_connection(("fd00:2::2", 80))
    b.sendall(b"GET / HTTP/1.0\r\n\r\n")
    while b.recv(65536): pass
    b.close()
    c.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello\n"); c.close()'
	await 10 listens b 8080
	tm up -n b
	mark add --src :8080 --dst fd00:1::1 --experiment cms --activity 14 --inherit
	ip -n a addr add fd00:1::11/64 dev w1 nodad
	for from in fd00:1::1 fd00:1::11; do
		in_node a curl -gsf --interface "$from" 'http://[fd00:1::2]:8080/' >/dev/null
	done
	tm flows --json | jq -c 'select(.remote == "[fd00:2::2]:80")
		| [.experiment, .activity]' | sort >"$DIR/backend"
	[ "$(cat "$DIR/backend")" = '["cms","Analysis Input"]
[null,null]' ]
}

no_marks() {
	[ -z "$(mark list --json)" ]
}

@test "a mark with an end ends" {
	udp_echo_start b :: 7777
	tm up -n a
	mark add --dst :7777 --experiment 2 --activity 9 --for 1h
	[ "$(mark list --json | jq -r '.activity, (.for_ns > 3000000000000)' | xargs)" = 'Debug true' ]
	udp_ask a 1 fd00:1::2 7777
	[ "$(counter mark_label)" = 1 ]
	# However slow this machine is now: of the hour nothing is left to race with.
	mark add --dst :7777 --experiment 2 --activity 9 --for 1ms
	await 10 no_marks
	udp_ask a 1 fd00:1::2 7777
	[ "$(counter mark_label)" = 1 ]
}

@test "an IPv4 flow has its mark and carries none, and show says so" {
	udp_echo_start b 10.1.0.2 7777
	tm up -n a
	mark add --dst 10.1.0.0/24 --experiment atlas --activity staging --how hop-by-hop
	capture_start ip
	udp_ask a 3 10.1.0.2 7777
	capture_stop
	[ "$(fields 'ip.src == 10.1.0.1' ip.len | sort -u)" = 128 ]
	[ "$(counter mark_ipv4)" = 3 ]
	tm show counters | grep -q 'IPv4 has no place for a mark'
	tm flows --json | jq -se '.[] | select(.proto == "udp" and (.remote | startswith("10.1.")))
		| .experiment == "atlas" and .activity == "Staging" and .mark_how == "hop-by-hop"'
}

@test "events say the mark of their flow, and fit the schema" {
	serve b 80
	tm up -n a
	mark add --dst :80 --experiment atlas --activity staging
	trace_start -n a
	in_node a curl -gsf 'http://[fd00:1::2]/' >/dev/null
	await_line "$LOG" '"type":"close"'
	trace_stop
	valid
	expect 0 '.proto == "tcp" and (.experiment != "atlas" or .activity != "Staging")'
	[ "$(events '.type == "connect" and .mark_how == "label"')" = 1 ]
}

@test "marks need no process, survive every one, and down removes them" {
	udp_echo_start b :: 7777
	tm up -n a
	mark add --dst :7777 --experiment 2 --activity 9
	trace_start -n a
	kill -KILL "$TRACE"
	await_end "$TRACE"
	udp_ask a 1 fd00:1::2 7777
	[ "$(counter mark_label)" = 1 ]
	[ "$(mark list --json | wc -l)" = 1 ]
	objects >"$DIR/objects"
	tm down
	nothing_attached
	await 10 objects_gone "$DIR/objects"
	run mark list
	[ "$status" = 1 ]
	[[ "$output" == *'no datapath is up there'* ]]
}

@test "what list prints, import takes, all of it or nothing" {
	tm up -n a
	mark add --dst 2001:db8::/32 --dst :1094 --experiment 2 --activity 9 --how destination
	mark add --proto tcp --src 10.0.0.1:5 --dst '10.0.0.2:6' --experiment 3 --activity 0 --for 1h
	mark add --uid 65534 --comm x --node later --experiment 511 --activity 63 --inherit
	mark list --json >"$DIR/marks"
	[ "$(wc -l <"$DIR/marks")" = 3 ]
	mark del --all
	[ -z "$(mark list --json)" ]
	mark import "$DIR/marks"
	diff <(jq -S 'del(.id, .for_ns)' "$DIR/marks") <(mark list --json | jq -S 'del(.id, .for_ns)')
	mark del --all
	echo '{"dst":"nonsense","experiment":1,"activity":1}' >>"$DIR/marks"
	run mark import "$DIR/marks"
	[ "$status" = 2 ]
	[[ "$output" == *"$DIR/marks:4: dst nonsense: not an endpoint"* ]]
	[ -z "$(mark list --json)" ]
}

@test "two that add at once both have what they added" {
	tm up -n a
	for n in {1..20}; do
		mark add --dst ":$((1000 + n))" --experiment 2 --activity 9 &
		mark add --proto tcp --src "10.0.0.1:$n" --dst 10.0.0.2:80 --experiment 2 --activity 9 &
		wait -n
	done
	wait
	[ "$(mark list --json | wc -l)" = 40 ]
	[ "$(mark list --json | jq .id | sort -u | wc -l)" = 40 ]
}

@test "bad input is refused with a word and changes nothing" {
	tm up -n a
	for bad in '--experiment 512 --activity 1' '--experiment 1 --activity 64' \
		'--experiment nobody --activity 1' '--experiment atlas --activity cache' \
		'--experiment 1 --activity 1 --dst 1.2.3.4:0' \
		'--experiment 1 --activity 1 --dst 10.0.0.1/8' \
		'--experiment 1 --activity 1 --dst :9-7' '--experiment 1 --activity 1 --how often' \
		'--experiment 1 --activity 1 --for ever' '--experiment 1' \
		'--experiment 1 --activity 1 --cgroup /nowhere' \
		'--experiment 1 --activity 1 --uid no-such-user' \
		'--experiment 1 --activity 1 --src 10.0.0.1 --dst 2001:db8::1' \
		'--experiment 1 --activity 1 --src fd00::/8 --dst 10.0.0.0/8' \
		'--experiment 1 --activity 1 --proto 50 --dst :80' \
		'--experiment 1 --activity 1 --id 7' '--experiment 1 --activity 1 --all'; do
		# shellcheck disable=SC2086
		run mark add $bad
		[ "$status" = 2 ] || { echo "$bad: $status $output" >&2; return 1; }
		[[ "$output" == 'tidemark: mark: '* ]]
	done
	[ -z "$(mark list --json)" ]
	run mark del --id 7
	[ "$status" = 1 ]
	run mark del
	[ "$status" = 2 ]
	run mark frobnicate
	[ "$status" = 2 ]
}
