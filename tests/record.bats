#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Recording: what is on disk afterwards is what was on the wire, and what is not was counted.

# shellcheck disable=SC2030,SC2031,SC2153	# PID is set by start; a test is a subshell: what it sets is its own

load lab.bash
load record.bash

setup() {
	lab_make
	TESTS=${BUILD:-.build}/tests
	OUT=$DIR/record
	[ -x "$TESTS/gen_trace" ] || skip 'no gen_trace: make packets'
}

teardown() {
	lab_clean
	mountpoint -q "$DIR/small" && umount "$DIR/small"
	return 0
}

frames() {
	python3 "$BATS_TEST_DIRNAME/frames.py" "$@"
}

rec() { # ARGS...
	"$TIDEMARK" record --pin-dir "$PIN" --state-dir "$STATE" "$@" 3>&-
}

of_class() { # FIELD
	"$TIDEMARK" show record --json --pin-dir "$PIN" | jq "select(.class == \"${2:-all}\") | .$1"
}

holds() { # FIELD TEST VALUE
	test "$(of_class "$1")" "$2" "$3"
}

dumped() { # PACKETS
	[ "$(frames count "$DIR/dump.pcap")" = "$1" ]
}

assignments_are() { # NUMBER
	[ "$(bpftool map dump pinned "$PIN/assignments" -j | jq length)" = "$1" ]
}

stats_sum() { # FIELD
	jq -s "map(.$1) | add" "$OUT/stats.jsonl"
}

# ---- files ----------------------------------------------------------------------------

@test "a file of every kind of frame is kept byte for byte, in order, with its timestamps" {
	trace_make 20000 1500
	rec -d "$OUT" -r "$DIR/trace.pcap"
	[ "$(frames same "$DIR/trace.pcap" "$OUT")" = 20000 ]
}

@test "a cutoff keeps of every flow exactly what an oracle keeps" {
	local cutoff

	trace_make 30000 2000 -o
	for cutoff in 0 1500 15360 200000; do
		rm -rf "$OUT"
		rec -d "$OUT" -r "$DIR/trace.pcap" --cutoff $cutoff
		frames cut "$DIR/trace.pcap" "$OUT" $cutoff
	done
}

@test "pcapng, microseconds, the other byte order and raw IP are read too" {
	trace_make 2000 200 -o
	python3 - "$DIR" <<-'PY'
	import struct, sys
	sys.path.insert(0, "tests")
	base = sys.argv[1]
	data = open(base + "/trace.pcap", "rb").read()
	at, packets = 24, []
	while at < len(data):
	    s, ns, kept, wire = struct.unpack_from("<IIII", data, at)
	    packets.append((s, ns, data[at + 16:at + 16 + kept]))
	    at += 16 + kept
	with open(base + "/big.pcap", "wb") as f:
	    f.write(struct.pack(">IHHIIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
	    for s, ns, b in packets:
	        f.write(struct.pack(">IIII", s, ns // 1000, len(b), len(b)) + b)
	def block(kind, body):
	    body += b"\0" * (-len(body) % 4)
	    return struct.pack("<II", kind, 12 + len(body)) + body + struct.pack("<I", 12 + len(body))
	with open(base + "/two.pcapng", "wb") as f:
	    f.write(block(0x0a0d0d0a, struct.pack("<IHHq", 0x1a2b3c4d, 1, 0, -1)))
	    f.write(block(1, struct.pack("<HHIHHI", 1, 0, 0, 9, 1, 9)))
	    f.write(block(1, struct.pack("<HHIHH4s", 101, 0, 0, 2, 3, b"tun")))
	    for i, (s, ns, b) in enumerate(packets):
	        raw = i % 2 and b[12:14] in (b"\x08\0", b"\x86\xdd")
	        b = b[14:] if raw else b
	        t = s * 10**9 + ns if not raw else s * 10**6 + ns // 1000
	        f.write(block(6, struct.pack("<IIIII", bool(raw), t >> 32, t & 0xffffffff,
	                                     len(b), len(b)) + b))
	PY
	rec -d "$OUT" -r "$DIR/big.pcap"
	frames bytes "$DIR/trace.pcap" "$OUT"
	rm -rf "$OUT"
	rec -d "$OUT" -r "$DIR/two.pcapng" --cutoff 3000
	[ "$(stats_sum stored_packets)" -lt 2000 ]
	[ "$(stats_sum 'stored_packets + .cut_packets')" = 2000 ]
}

@test "Linux cooked and loopback captures keep their bytes, and answer as Ethernet would" {
	local kind question

	trace_make 3000 300 -o
	python3 - "$DIR" <<-'PY'
	import struct, sys
	base = sys.argv[1]
	data = open(base + "/trace.pcap", "rb").read()
	at, packets = 24, []
	while at < len(data):
	    s, ns, kept, wire = struct.unpack_from("<IIII", data, at)
	    frame = data[at + 16:at + 16 + kept]
	    if frame[12:14] in (b"\x08\0", b"\x86\xdd"):
	        packets.append((s, ns, frame))
	    at += 16 + kept
	def sll(f):
	    return struct.pack(">HHH8s", 0, 1, 6, f[6:12]) + f[12:]
	def sll2(f):
	    return f[12:14] + struct.pack(">HIHBB8s", 0, 3, 1, 0, 6, f[6:12]) + f[14:]
	def null(f):
	    return struct.pack("<I", 2 if f[12] == 8 else 30) + f[14:]
	def loop(f):
	    return struct.pack(">I", 2 if f[12] == 8 else 30) + f[14:]
	for name, link, change in (("ether", 1, lambda f: f), ("sll", 113, sll), ("sll2", 276, sll2),
	                           ("null", 0, null), ("loop", 108, loop)):
	    with open(f"{base}/{name}.pcap", "wb") as out:
	        out.write(struct.pack("<IHHIIII", 0xa1b23c4d, 2, 4, 0, 0, 262144, link))
	        for s, ns, f in packets:
	            f = change(f)
	            out.write(struct.pack("<IIII", s, ns, len(f), len(f)) + f)
	PY
	for kind in ether sll sll2 null loop; do
		rec -d "$DIR/$kind" -r "$DIR/$kind.pcap"
		frames same "$DIR/$kind.pcap" "$DIR/$kind"
		for question in tcp 'udp port 53' ip6 'net 10.1.0.0/24' 'port 443 and not ip6'; do
			[ "$("$TIDEMARK" query -d "$DIR/$kind" "$question" --count)" = \
				"$("$TIDEMARK" query -d "$DIR/ether" "$question" --count)" ] ||
				{ echo "$kind: $question"; false; }
		done
	done
	[ "$("$TIDEMARK" query -d "$DIR/sll2" tcp --count)" -gt 1000 ]
	"$TIDEMARK" query -d "$DIR/sll2" tcp -w "$DIR/sll2.pcapng"
	tcpdump -nr "$DIR/sll2.pcapng" -c 1 2>&1 | grep -q 'link-type LINUX_SLL2'
	for kind in sll sll2 null loop; do
		rm "$DIR/$kind"/all/*.index
		rec -d "$DIR/$kind" --reindex
		[ "$("$TIDEMARK" query -d "$DIR/$kind" tcp --count)" = \
			"$("$TIDEMARK" query -d "$DIR/ether" tcp --count)" ] || { echo "$kind"; false; }
	done
}

@test "a file cut short gives what is whole, and says where" {
	trace_make 1000 100
	head -c -20 "$DIR/trace.pcap" >"$DIR/short.pcap"
	run rec -d "$OUT" -r "$DIR/short.pcap"
	[ "$status" = 1 ]
	[[ $output == *'cut short in a packet; the 999 packets before that are recorded'* ]]
	[ "$(frames count "$OUT")" = 999 ]
}

@test "what is no capture, or of a link nobody knows, is refused" {
	echo hello >"$DIR/text"
	run rec -d "$OUT" -r "$DIR/text"
	[ "$status" = 2 ]
	[[ $output == *'neither pcap nor pcapng'* ]]
	trace_make 10 2
	printf '\x69' | dd of="$DIR/trace.pcap" bs=1 seek=20 conv=notrunc status=none
	run rec -d "$OUT" -r "$DIR/trace.pcap"
	[ "$status" = 2 ]
	[[ $output == *'link type 105; known are Ethernet'* ]]
	[ ! -e "$OUT/all" ]
}

# Of the trace's packets every third is called one of a link type that nobody knows.
mixed_make() { # FILE
	python3 - "$DIR/trace.pcap" "$1" <<-'END'
	import struct, sys
	def block(kind, body):
	    body += bytes(-len(body) % 4)
	    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)
	data, at, n = open(sys.argv[1], "rb").read(), 24, 0
	out = block(0x0a0d0d0a, struct.pack("<IHHq", 0x1a2b3c4d, 1, 0, -1))
	for link in (1, 147):
	    out += block(1, struct.pack("<HHIHHBxxxI", link, 0, 0, 9, 1, 9, 0))
	while at < len(data):
	    s, ns, kept, wire = struct.unpack_from("<IIII", data, at)
	    t = s * 10**9 + ns
	    out += block(6, struct.pack("<IIIII", n % 3 == 2, t >> 32, t & 0xffffffff, kept, wire)
	                 + data[at + 16:at + 16 + kept])
	    at, n = at + 16 + kept, n + 1
	open(sys.argv[2], "wb").write(out)
	END
}

@test "of a pcapng with an interface of an unknown link, all others are recorded" {
	trace_make 3000 300
	mixed_make "$DIR/mixed.pcapng"
	run rec -d "$OUT" -r "$DIR/mixed.pcapng"
	[ "$status" = 1 ]
	[[ $output == *'1000 packets, of link type 147, are not recorded; known are'* ]]
	"$TIDEMARK" query -d "$OUT" -w "$DIR/o.pcapng"
	diff <(tshark -r "$DIR/o.pcapng" -x 2>/dev/null) \
		<(tshark -r "$DIR/mixed.pcapng" -Y 'frame.interface_id == 0' -x 2>/dev/null)
	[ "$(frames count "$OUT")" = 2000 ]
}

@test "a file without packets is said to have none, and raw IP of other numbers is read" {
	trace_make 1000 100 -o
	head -c 24 "$DIR/trace.pcap" >"$DIR/none.pcap"
	run rec -d "$OUT" -r "$DIR/none.pcap"
	[ "$status" = 0 ]
	[[ $output == *'none.pcap: 0 packets read, 0 stored'* ]]
	editcap -F pcap -C 14 -L -T rawip "$DIR/trace.pcap" "$DIR/raw.pcap"
	printf '\x0c' | dd of="$DIR/raw.pcap" bs=1 seek=20 conv=notrunc status=none
	rec -d "$OUT" -r "$DIR/raw.pcap"
	[ "$("$TIDEMARK" query -d "$OUT" --count tcp)" = \
		"$(tcpdump -nr "$DIR/trace.pcap" tcp or ip6 proto 6 2>/dev/null | wc -l)" ]
	[ "$("$TIDEMARK" query -d "$OUT" --count tcp)" -gt 100 ]
}

@test "bad classes and orders are refused with a remedy, and change nothing" {
	local bad

	for bad in ':cutoff=1' 'a b:' 'x:cutoff=lots' 'x:color=red' 'x:mem=1' 'x:sample=0' \
		'x:snap=10' 'x:cutoff=1,cutoff=2' 'x:age=1h,filter=udp,age=1h' '-:cutoff=1k' 'x:filter=port http x' 'x:precedence=-1' 'x:age=soon'; do
		run rec -d "$OUT" -r /dev/null --class "$bad"
		[ "$status" = 2 ] || { echo "$bad: $status $output"; false; }
	done
	run rec -d "$OUT" --cutoff some
	[ "$status" = 2 ]
	run rec --suspend 'conn 1.2.3.4:5'
	[ "$status" != 0 ]
	run rec -d "$OUT" -r /dev/null -r /dev/null
	[ "$status" = 2 ]
	[[ $output == *'one file at a time'* ]]
	run rec -d "$DIR/nowhere" --reindex
	[ "$status" = 1 ]
	[[ $output == *nowhere*'No such file'* ]]
	[ ! -e "$DIR/nowhere" ]
	nothing_attached
}

@test "a configuration of Time Machine is recorded by, and what means nothing here is said" {
	trace_make 3000 300 -o
	cat >"$DIR/tm.cfg" <<-EOF
	main { workdir "$OUT"; read_tracefile "$DIR/trace.pcap"; index "ip" disk; conn_timeout 180; }
	class "web" { filter "port 80 or port 443"; precedence 50; cutoff no; }
	class "all" { filter ""; precedence 10; cutoff 2k; }
	EOF
	run rec --from timemachine "$DIR/tm.cfg"
	[ "$status" = 0 ]
	[[ $output == *'tm.cfg:1: conn_timeout means nothing here: '* ]]
	[ "$(stats_sum 'stored_packets + .cut_packets')" = 3000 ]
	jq -se 'map(select(.class == "web" and .cut_packets == 0 and .stored_packets > 0)) |
		length == 1' "$OUT/stats.jsonl"
	jq -se 'map(select(.class == "all" and .cut_packets > 0)) | length == 1' "$OUT/stats.jsonl"
	# Told when all of it is on disk.
	jq -se 'all(.disk_files == 1 and .disk_bytes > .stored_bytes and .mem_bytes == 0)' \
		"$OUT/stats.jsonl"
	sed -i 's/port 443/tcp[13] = 2/' "$DIR/tm.cfg"
	rm -rf "$OUT"
	run rec --from timemachine "$DIR/tm.cfg"
	[ "$status" = 2 ]
	[[ $output == *'tm.cfg:2: class web: filter: '* ]]
	[ ! -e "$OUT" ]
	run rec --from tcpdump "$DIR/tm.cfg"
	[ "$status" = 2 ]
}

# ---- the wire ---------------------------------------------------------------------------

@test "what is recorded of a device is what tcpdump captured there, frame by frame" {
	local n

	quiet_wire
	trace_make 20000 1500
	record_start -d "$OUT" -n netns:b --ring 64m
	start b tcpdump -i wb -U -s 0 -B 65536 --time-stamp-precision=nano -w "$DIR/dump.pcap"
	await_line "$DIR/tcpdump.out" 'listening on'
	[ "$(replay -r 40000)" = 20000 ]
	await 10 dumped 20000
	record_stop
	kill -TERM "$PID"
	n=$(frames bytes "$DIR/dump.pcap" "$OUT")
	[ "$n" = 20000 ]
	[ "$(stats_sum lost_packets)" = 0 ]
	frames bytes "$DIR/trace.pcap" "$OUT"
	nothing_attached
}

@test "a mirror port is recorded, what is addressed to others too" {
	quiet_wire
	trace_make 3000 300
	nsenter --net=/run/netns/b -- "$TIDEMARK" record --pin-dir "$PIN" --state-dir "$STATE" -i wb \
		-d "$OUT" --cutoff 15k 2>"$DIR/record.words" 3>&- &
	RECORDER=$!
	PIDS+=("$RECORDER")
	await_line "$DIR/record.words" 'recording 1 nodes'
	replay -r 30000
	await 10 holds "stored_packets + .cut_packets" = 3000
	[ "$(of_class cut_packets)" -gt 100 ]
	record_stop
}

@test "a recorder that is killed loses nothing of what the rings still hold" {
	quiet_wire
	trace_make 1000 100
	tm up -n netns:b
	record_start -d "$OUT"
	replay -r 20000
	await 10 holds "stored_packets" = 1000
	kill -KILL "$RECORDER"
	wait "$RECORDER" || :
	replay -r 20000
	record_start -d "$OUT"
	grep -q 'taking over' "$DIR/record.words"
	record_stop
	[ "$(frames count "$OUT")" -ge 1000 ]
	[ "$(frames count "$OUT" | tail -1)" -le 2000 ]
	[ "$(of_class lost_packets)" = 0 ]
	tm show nodes --json | grep -q '"b"'
}

@test "a recorder that cannot keep up loses packets, each of them counted, in a gap" {
	quiet_wire
	trace_make 30000 2000
	record_start -d "$OUT" -n netns:b --ring 256k
	kill -STOP "$RECORDER"
	[ "$(replay)" = 30000 ]
	[ "$(of_class 'stored_packets + .lost_packets')" = 30000 ]
	[ "$(of_class lost_packets)" -gt 20000 ]
	kill -CONT "$RECORDER"
	record_stop
	[ "$(stats_sum 'stored_packets + .lost_packets')" = 30000 ]
	[ "$(frames count "$OUT")" = "$(stats_sum stored_packets)" ]
	jq -se 'any(.lost_ppm > 500000)' "$OUT/stats.jsonl"
}

@test "of a file that finds no room, what was lost is counted and the rest can be asked for" {
	trace_make 20000 1500
	mkdir "$DIR/small"
	mount -t tmpfs -o size=3m none "$DIR/small"
	run rec -d "$DIR/small/record" -r "$DIR/trace.pcap"
	[ "$status" = 1 ]
	lost=$(sed -n 's/.*class all: \([0-9]*\) packets were lost.*/\1/p' <<<"$output")
	stored=$(sed -n 's/.* read, \([0-9]*\) stored.*/\1/p' <<<"$output")
	there=$("$TIDEMARK" query -d "$DIR/small/record" --count)
	echo "$output; $there"
	umount "$DIR/small"
	[ "$stored" = "$there" ]
	[ $((lost + there)) = 20000 ]
}

@test "a full disk is said, packets are counted, and the datapath goes on" {
	quiet_wire
	trace_make 20000 1500
	mkdir "$DIR/small"
	mount -t tmpfs -o size=4m none "$DIR/small"
	record_start -d "$DIR/small/record" -n netns:b --ring 64m
	replay -r 40000
	await_line "$DIR/record.words" 'No space left on device: packets are lost and counted'
	await 10 holds "stored_packets" = 20000
	await 10 holds "lost_packets" -gt 1000
	status=0
	record_stop || status=$?
	[ "$status" = 1 ]
	umount "$DIR/small"
	nothing_attached
}

@test "what finds no room to be compressed in is said to stay as it is, and is sealed" {
	trace_make 4400 400
	mkdir "$DIR/small"
	mount -t tmpfs -o size=3m none "$DIR/small"
	run -0 "$TIDEMARK" record -d "$DIR/small/record" --state-dir "$STATE" --zstd \
		-r "$DIR/trace.pcap"
	[[ ${lines[0]} == *": not compressed: No space left on device; it stays as it is" ]]
	[[ $output != *sealed* ]]
	[ "$(find "$DIR/small" -name '*.index' | wc -l)" -eq 1 ]
	run -0 "$TIDEMARK" query -d "$DIR/small/record" --count
	[ "$output" = 4400 ]
	umount "$DIR/small"
}

@test "a record deleted while it is written is said at once, and its packets are counted" {
	quiet_wire
	trace_make 500 100
	record_start -d "$OUT" -n netns:b
	replay -r 40000
	await 10 holds "stored_packets" = 500
	rm -r "$OUT"
	await_line "$DIR/record.words" 'deleted while it is written; stop, and record anew'
	status=0
	record_stop || status=$?
	[ "$status" = 1 ]
	grep -q 'class all: 500 packets were lost' "$DIR/record.words"
	nothing_attached
}

@test "one flow's cutoff is suspended and a host given a class while it runs" {
	node a b
	wire a b 1
	udp_echo_start b 10.1.0.2 7000
	record_start -d "$OUT" -n netns:b --cutoff 500 --class all: --class 'few:cutoff=0'
	in_node a python3 - "$DIR" <<-'PY' &
	import socket, sys, time, os
	s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	s.bind(("10.1.0.1", 7001))
	s.settimeout(10)
	def ask(n):
	    for _ in range(n):
	        s.sendto(b"x" * 400, ("10.1.0.2", 7000))
	        s.recv(2000)
	ask(10)
	open(sys.argv[1] + "/asked", "w").close()
	while os.stat(sys.argv[1]) and not os.path.exists(sys.argv[1] + "/again"):
	    time.sleep(0.01)
	ask(10)
	PY
	asker=$!
	await 10 test -e "$DIR/asked"
	[ "$(of_class cut_packets)" = 18 ]
	rec --suspend 'conn 10.1.0.1:7001 10.1.0.2:7000'
	touch "$DIR/again"
	wait "$asker"
	[ "$(of_class cut_packets)" = 18 ]
	rec --assign 10.1.0.1:few:orig:1h
	udp_ask a 5 10.1.0.2 7000
	[ "$(of_class cut_packets few)" = 10 ]
	rec --unassign 10.1.0.1
	udp_ask a 1 10.1.0.2 7000
	[ "$(of_class cut_packets few)" = 10 ]
	run rec --suspend 'conn 10.1.0.1:1 10.1.0.2:2'
	[ "$status" = 1 ]
	record_stop
}

@test "classes are read again on SIGHUP, open flows are asked again, and a wrong file changes nothing" {
	node a b
	wire a b 1
	udp_echo_start b 10.1.0.2 7000
	echo 'class "all" { cutoff no; }' >"$DIR/tm.cfg"
	record_start -d "$OUT" -n netns:b --from timemachine "$DIR/tm.cfg"
	udp_ask a 2 10.1.0.2 7000
	await 5 holds "stored_packets" -ge 4
	echo 'class "all" { cutoff lots; }' >"$DIR/tm.cfg"
	kill -HUP "$RECORDER"
	await_line "$DIR/record.words" 'not reloaded; recording goes on as before'
	udp_ask a 2 10.1.0.2 7000
	[ "$(of_class cut_packets)" = 0 ]
	printf '%s\n' 'class "none" { cutoff 0; filter "port 7000"; precedence 9; }' \
		'class "all" { cutoff no; }' >"$DIR/tm.cfg"
	kill -HUP "$RECORDER"
	await_line "$DIR/record.words" 'reloaded, 2 classes'
	udp_ask a 3 10.1.0.2 7000
	[ "$(of_class cut_packets none)" = 6 ]
	[ "$("$TIDEMARK" query -d "$OUT" 'port 7000' --count)" = 8 ]
	record_stop
}

@test "a class given to a host ends with its time, and the flow is asked again" {
	node a b
	wire a b 1
	udp_echo_start b 10.1.0.2 7000
	record_start -d "$OUT" -n netns:b --class all: --class 'few:cutoff=0,precedence=1,filter=port 1'
	rec --assign 10.1.0.1:few:1s
	[ "$("$TIDEMARK" show record --json --pin-dir "$PIN" | grep -c few)" = 1 ]
	udp_ask a 1 10.1.0.2 7000
	[ "$(of_class cut_packets few)" = 2 ]
	await 10 assignments_are 0
	udp_ask a 1 10.1.0.2 7000
	[ "$(of_class cut_packets few)" = 2 ]
	await 5 holds "stored_packets" -ge 2
	record_stop
}

@test "trace and record share a datapath, and the last takes it down" {
	node a b
	wire a b 1
	udp_echo_start b 10.1.0.2 7000
	record_start -d "$OUT" -n netns:a -n netns:b
	trace_start
	udp_ask a 5 10.1.0.2 7000
	trace_stop
	udp_ask a 5 10.1.0.2 7000
	await 5 holds "stored_packets" -ge 40
	run rec -d "$DIR/other"
	[ "$status" = 1 ]
	[[ $output == *'records from this datapath, and only one can'* ]]
	record_stop
	nothing_attached
}

@test "of a datapath that is up only the nodes asked for are recorded" {
	node a b
	wire a b 1
	tm up -n netns:a -n netns:b
	udp_echo_start b 10.1.0.2 7
	record_start -d "$OUT" -n netns:a
	grep -q 'recording 1 nodes' "$DIR/record.words"
	udp_ask a 20 10.1.0.2 7
	record_stop
	[ "$("$TIDEMARK" query -d "$OUT" --count 'node a and udp')" = 40 ]
	[ "$("$TIDEMARK" query -d "$OUT" --count 'node b')" = 0 ]
	run -1 rec -d "$OUT" -n host
	[[ $output == *'host: not a node of the datapath that is up'* ]]
	tm down
}
