#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Clocks that travel in packets: two datapaths that share nothing but the wire between them.

# Variables of bats, of lab.bash and of inband.bash:
# shellcheck disable=SC2030,SC2031,SC2034,SC2153,SC2154

load lab.bash
load inband.bash

setup() {
	lab_make
	HOST_PINS=()
	node a b
}

teardown() {
	hosts_clean
	lab_clean
}

capture_start() { # NODE DEVICE [FILTER...]
	start "$1" tcpdump --immediate-mode -U -s 0 -i "$2" -w "$DIR/wire.pcap" "${@:3}"
	CAPTURE=$PID
	await_line "$DIR/tcpdump.out" 'listening on'
}

capture_stop() {
	kill -TERM "$CAPTURE"
	await_end "$CAPTURE"
	tcpdump -nnvvr "$DIR/wire.pcap" >"$DIR/wire.txt" 2>/dev/null
	[ -s "$DIR/wire.txt" ]
}

@test "requests on one keep-alive connection, IPv4 and IPv6: hosts hours apart, one order" {
	wire a b 1
	hosts
	nginx_start b 80 <<<"$hello"
	requests a 300 10.1.0.2 80
	requests a 300 fd00:1::2 80
	hosts_stop
	ordered 1200
	wall_wrong 30
	[ "$(pairs)" -ge 1200 ]
	expect 0 'IN(.type; "recv", "accept") and .via != "in-band"'
	[ "$(jq .unmatched_recv "$DIR/check.json")" = 0 ]
	valid
}

# A server whose last data and FIN are one segment: it corks, answers, closes.
closing_server_start() { # NODE PORT
	start "$1" python3 -c '
import socket, sys
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    c = s.accept()[0]
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    c.recv(1000)
    c.sendall(b"HTTP/1.0 200 OK\r\n\r\nbye")
    c.close()
' "$2"
	await 10 listens "$1" "$2"
}

@test "data that is sent with the connection's end is received: no send is without its receipt" {
	wire a b 1
	closing_server_start b 9000
	nginx_start b 80 <<<"$hello"
	capture_start a w1 'tcp[tcpflags] & tcp-fin != 0'
	hosts
	for address in 10.1.0.2 '[fd00:1::2]'; do
		for _ in {1..20}; do
			in_node a curl -gsS --max-time 10 -o /dev/null "http://$address:9000/"
			in_node a curl -gsS --max-time 10 -o /dev/null -H 'Connection: close' "http://$address/"
		done
	done
	hosts_stop
	capture_stop
	# There was what this is about: FIN together with data.
	grep -qE 'Flags \[FP\.\].* length [1-9]' "$DIR/wire.txt"
	ordered 240
	jq -e '.unmatched_send == 0 and .unmatched_recv == 0' "$DIR/check.json"
	expect 0 '.type == "recv" and .via != "in-band"'
	# Who receives the end is above it, though it came with the data's stamp.
	jq -en '[inputs | select(.type == "close")] | group_by([.src, .dst])
		| all(.[]; (map(.hlc) | sort | unique | length) == length)' "$LOG"
	valid
}

# Whether a program may set the callbacks of sockets: TCP_BPF_SOCK_OPS_CB_FLAGS, Linux 6.12.
older_can() {
	kernel_has older-sockets ||
		skip 'this kernel cannot set the callbacks of sockets that are there'
}

@test "a server older than Tidemark, on a listener that IPv4 and IPv6 share, is stamped too" {
	older_can
	wire a b 1
	tcp_echo_start b 9000
	hosts
	tcp_same a 10.1.0.2 9000 100 50
	tcp_same a fd00:1::2 9000 100 50
	hosts_stop
	ordered 200
	expect 0 '.type == "recv" and .via != "in-band"'
}

@test "a connection older than Tidemark is counted, and stamped from where the kernel lets us" {
	older_can
	wire a b 1
	tcp_echo_start b 9000
	mkfifo "$DIR/go"
	start a python3 -c '
import socket, sys
c = socket.create_connection(("10.1.0.2", 9000))
print("connected", flush=True)
def ask(n):
    for i in range(n):
        c.sendall(b"x" * 100)
        assert len(c.recv(1000)) == 100
ask(1)
open(sys.argv[1]).read()
ask(20)
print("asked", flush=True)
' "$DIR/go"
	await_line "$DIR/python3.out" '^connected'
	hosts
	[ "$(host_counter a stamp_older)" = 1 ]
	[ "$(host_counter b stamp_older)" = 1 ]
	echo >"$DIR/go"
	await_line "$DIR/python3.out" '^asked'
	hosts_stop
	ordered 38
	expect 20 '.node == "b" and .type == "recv"'
	expect 0 '.type == "recv" and .via != "in-band"'
}

@test "without a peer nothing is written, and what comes is not read" {
	wire a b 1
	udp_echo_start b 10.1.0.2 7
	tcp_echo_start b 9000
	capture_start a w1
	host_start a --skew a=+3s --peer 10.9.0.0/16
	host_start b --skew b=-2h
	udp_ask a 10 10.1.0.2 7
	tcp_same a 10.1.0.2 9000 100 10
	[ "$(host_counter a stamp)" = 0 ]
	[ "$(host_counter b stamp)" = 0 ]
	capture_stop
	hosts_stop
	run ! grep -E unknown-253 "$DIR/wire.txt"
	expect 0 '.cause'
	[ "$("$TIDEMARK" check "$LOG" | jq .in_band)" = 0 ]
}

@test "stamps from a host that is no peer of ours move no clock" {
	wire a b 1
	udp_echo_start b 10.1.0.2 7
	tcp_echo_start b 9000
	host_start a --skew a=+3s "${PEERS[@]}"
	host_start b --skew b=-2h --peer 10.7.0.0/16
	udp_ask a 10 10.1.0.2 7
	tcp_same a 10.1.0.2 9000 100 10
	[ "$(host_counter a stamp)" -gt 10 ]
	[ "$(host_counter b stamp)" = 0 ]
	hosts_stop
	expect 0 '.node == "b" and .cause'
}

@test "all UDP sizes from 0 to 8000 arrive byte for byte, IPv4 and IPv6" {
	wire a b 1
	udp_echo_start b 10.1.0.2 7
	udp_echo_start b fd00:1::2 9
	hosts
	udp_sizes a 10.1.0.2 7 8000 1
	udp_sizes a fd00:1::2 9 8000 1
	[ "$(host_counter a stamp_fragment)" -gt 0 ]
	[ "$(host_counter a stamp_mtu)" -gt 0 ]
	[ "$(host_counter a stamp_bad)" = 0 ]
	hosts_stop
	# Those that have room for a stamp in 1500 bytes, both ways.
	merged_ordered 5700
	wall_wrong 30
}

@test "no checksum is bad on a wire whose ends compute them in software, nor invalid to conntrack" {
	wire a b 1
	offload_off a w1
	offload_off b w1
	for node in a b; do
		in_node $node nft -f - <<-'EOF2'
		table inet t {
			counter invalid { }
			chain i {
				type filter hook input priority 0;
				ct state invalid counter name invalid drop
			}
		}
		EOF2
	done
	udp_echo_start b 10.1.0.2 7
	udp_echo_start b fd00:1::2 9
	tcp_echo_start b 9000
	hosts
	capture_start b w1
	udp_sizes a 10.1.0.2 7 1500 3
	udp_sizes a fd00:1::2 9 1500 3
	tcp_same a 10.1.0.2 9000 1000 100
	tcp_same a fd00:1::2 9000 300000 2
	capture_stop
	[ "$(grep -c 'unknown-253' "$DIR/wire.txt")" -gt 400 ]
	run ! grep -iE "bad udp cksum|incorrect|bad cksum" "$DIR/wire.txt"
	for node in a b; do
		in_node $node nft -j list counter inet t invalid | jq -e '.nftables[1].counter.packets == 0'
	done
	hosts_stop
	merged_ordered 1500
}

@test "through a bridge: the same bytes, the same order" {
	node sw
	wire a sw 1
	wire b sw 2
	ip -n sw link add br0 type bridge
	ip -n sw addr flush dev w1
	ip -n sw addr flush dev w2
	ip -n sw link set w1 master br0
	ip -n sw link set w2 master br0
	ip -n sw link set br0 up
	ip -n b addr add 10.1.0.2/24 dev w2
	udp_echo_start b 10.1.0.2 7
	tcp_echo_start b 9000
	hosts
	udp_sizes a 10.1.0.2 7 8000 1
	tcp_same a 10.1.0.2 9000 100 100
	tcp_same a 10.1.0.2 9000 5000000
	hosts_stop
	merged_ordered 600
}

@test "through VXLAN: what is inside is stamped, the tunnel's own packets are left alone" {
	wire a b 1
	for end in a:1:2 b:2:1; do
		IFS=: read -r node me peer <<<"$end"
		ip -n "$node" link add vx type vxlan id 5 dstport 4789 local "10.1.0.$me" \
			remote "10.1.0.$peer" dev w1
		ip -n "$node" addr add "10.5.0.$me/24" dev vx
		ip -n "$node" link set vx up
	done
	udp_echo_start b 10.5.0.2 7
	tcp_echo_start b 9000
	hosts
	udp_sizes a 10.5.0.2 7 8000 1
	tcp_same a 10.5.0.2 9000 100 100
	tcp_same a 10.5.0.2 9000 5000000
	[ "$(host_counter a stamp_tunnel)" -gt 100 ]
	hosts_stop
	merged_ordered 600
}

@test "through DNAT: stamps arrive, and the order holds" {
	node gw
	wire a gw 1
	wire gw b 2
	in_node gw sysctl -qw net.ipv4.ip_forward=1
	ip -n a route add default via 10.1.0.2
	ip -n b route add default via 10.2.0.1
	in_node gw nft -f - <<-'EOF2'
	table ip t {
		chain p {
			type nat hook prerouting priority -100;
			ip daddr 10.77.0.1 dnat to 10.2.0.2
		}
		chain f {
			type filter hook forward priority 0;
			ct state invalid drop
		}
	}
	EOF2
	hosts
	udp_echo_start b 10.2.0.2 7
	tcp_echo_start b 9000
	udp_sizes a 10.77.0.1 7 8000 1
	tcp_same a 10.77.0.1 9000 100 100
	tcp_same a 10.77.0.1 9000 2000000
	hosts_stop
	expect 0 '.type == "recv" and .proto == "tcp" and .via != "in-band"'
	# The two ends know the connection by different addresses: by the carried stamp alone.
	jq -ne '[inputs] | (map(select(.type | IN("send", "connect", "close", "retransmit")) | {(.hlc): 1})
		| add) as $sent | [.[] | select(.type == "recv" and .cause)]
		| (length > 600) and all(.[]; .hlc > .cause and $sent[.cause])' "$LOG"
}

@test "with loss, reordering and duplication: all bytes, and no inversion (T35)" {
	faulty loss
	tcp_echo_start b 9000
	hosts
	tcp_same a 10.1.0.2 9000 200 200
	tcp_same a fd00:1::2 9000 200 100
	tcp_same a 10.1.0.2 9000 400000 3
	[ "$(host_counter a retransmit)" -gt 0 ]
	[ "$(host_counter b ahead)" -gt 0 ]
	hosts_stop
	merged_ordered 600
	wall_wrong 30
	for dir in a:b:1 b:a:2; do
		IFS=: read -r from to _ <<<"$dir"
		sent=$(jq -n "[inputs | select(.node == \"$from\" and .type == \"send\") | .bytes] | add" "$LOG")
		got=$(jq -n "[inputs | select(.node == \"$to\" and .type == \"recv\") | .bytes] | add" "$LOG")
		echo "# $from sent $sent, $to received $got" >&3
		[ "$sent" = "$got" ]
	done
}

@test "where options are stripped, nothing is invented: connections work, causes are unknown" {
	faulty strip
	tcp_echo_start b 9000
	udp_echo_start b 10.1.0.2 7
	hosts
	tcp_same a 10.1.0.2 9000 200 50
	udp_ask a 20 10.1.0.2 7
	[ "$(host_counter a stamp_silent)" -ge 1 ]
	hosts_stop
	expect 0 '.cause'
	# What a repair needs: the same numbers at both ends.
	jq -ne '[inputs | select(.proto == "udp" and (.dst | endswith(":7")))] as $all
		| [$all[] | select(.type == "send") | .hash] as $sent
		| [$all[] | select(.type == "recv") | .hash]
		| length == 20 and . == $sent and .[0] > 0' "$LOG"
	valid
}

@test "who cannot bear the option is reached without it" {
	faulty reject
	tcp_echo_start b 9000
	hosts
	tcp_same a 10.1.0.2 9000 200 20
	await_line "$DIR/python3.out" rejected 1 || grep -q rejected "$DIR"/*.out
	[ "$(host_counter a stamp_silent)" = 1 ]
	hosts_stop
	expect 20 '.node == "b" and .type == "recv"'
}

@test "a server without Tidemark sees the option in the SYN, and never again" {
	wire a b 1
	tcp_echo_start b 9000
	capture_start b w1 tcp
	host_start a "${PEERS[@]}"
	tcp_same a 10.1.0.2 9000 200 20
	[ "$(host_counter a stamp_silent)" = 1 ]
	capture_stop
	[ "$(grep -c 'unknown-253' "$DIR/wire.txt")" = 1 ]
	grep -B1 'unknown-253' "$DIR/wire.txt" | grep -q 'Flags \[S\]\|unknown-253'
}

@test "SYN cookies: a server that keeps no state of a SYN is stamped from the first segment" {
	wire a b 1
	in_node b sysctl -qw net.ipv4.tcp_syncookies=2
	hosts
	tcp_echo_start b 9000
	tcp_same a 10.1.0.2 9000 200 20
	tcp_same a fd00:1::2 9000 200 20
	in_node b nstat -asz TcpExtSyncookiesRecv | grep -E 'SyncookiesRecv +[1-9]'
	hosts_stop
	ordered 80
	expect 0 'IN(.type; "recv", "accept") and .via != "in-band"'
}

fast_open() { # NODE COUNT
	in_node "$1" python3 - "$2" <<-'EOF2'
	import socket, sys
	for i in range(int(sys.argv[1])):
	    s = socket.socket()
	    s.sendto(b"x" * 100, 0x20000000, ("10.1.0.2", 9000))
	    assert len(s.recv(1000)) == 100
	    s.close()
	EOF2
}

@test "TCP Fast Open: data in the SYN is stamped, and where there is no room no cause is invented" {
	wire a b 1
	for node in a b; do
		in_node $node sysctl -qw net.ipv4.tcp_fastopen=3
	done
	start b python3 -c '
import socket
s = socket.socket()
s.setsockopt(6, 23, 5)
s.bind(("10.1.0.2", 9000))
s.listen()
while True:
    c, _ = s.accept()
    c.sendall(c.recv(1000))
    c.close()
'
	await 10 listens b 9000
	hosts
	# Without timestamps a stamp has room beside the cookie.
	in_node a sysctl -qw net.ipv4.tcp_timestamps=0
	fast_open a 3
	in_node a sysctl -qw net.ipv4.tcp_timestamps=1
	fast_open a 3
	in_node a nstat -asz TcpExtTCPFastOpenActive | grep -E 'FastOpenActive +[1-9]'
	[ "$(host_counter a stamp_no_space)" -gt 0 ]
	hosts_stop
	merged_ordered 8
	expect 6 '.node == "b" and .type == "recv" and .bytes == 100'
	# The first has its stamp behind the SYN, if the listener, older than we are, could answer.
	[ "$(events '.node == "b" and .type == "recv" and .via == "in-band"')" -ge 2 ]
	[ "$(events '.node == "b" and .type == "recv" and .via != "in-band"')" -ge 3 ]
}

@test "UDP in GSO and on ports to be left alone goes unstamped, and is counted" {
	wire a b 1
	udp_echo_start b 10.1.0.2 7
	udp_echo_start b 10.1.0.2 9
	hosts --no-stamp-port 9
	udp_ask a 10 10.1.0.2 7
	udp_ask a 10 10.1.0.2 9
	in_node a python3 - <<-'EOF2'
	import socket
	s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	s.setsockopt(17, 103, 500)  # UDP_SEGMENT
	s.settimeout(5)
	s.sendto(b"y" * 2000, ("10.1.0.2", 7))
	assert sum(len(s.recv(2000)) for _ in range(4)) == 2000
	EOF2
	[ "$(host_counter a stamp_left_out)" = 10 ]
	[ "$(host_counter b stamp_left_out)" = 10 ]
	[ "$(host_counter a stamp_gso)" = 1 ]
	"$TIDEMARK" show peers --pin-dir /sys/fs/bpf/a | grep -E '^10\.0\.0\.0/8 .* 9$'
	hosts_stop
	expect 10 '.node == "b" and .type == "recv" and (.dst | endswith(":7")) and .via == "in-band"'
	expect 0 '.cause and (.dst | endswith(":9"))'
	merged_ordered 20
}

@test "of datagrams one burst in four is stamped, and the log says of each of the others that it was not" {
	wire a b 1
	udp_echo_start b 10.1.0.2 7
	hosts --stamp-sample 4
	udp_sizes a 10.1.0.2 7 399 1
	[ "$("$TIDEMARK" show peers --json --pin-dir /sys/fs/bpf/a | jq -s '.[0].udp_stamped_one_in')" = 4 ]
	left=$(host_counter a stamp_sampled)
	[ "$left" -gt 200 ] && [ "$left" -lt 380 ]
	hosts_stop
	expect "$left" '.node == "a" and .type == "send" and .unstamped'
	expect "$left" '.node == "b" and .type == "recv" and (has("cause") | not)'
	expect $((400 - left)) '.node == "b" and .type == "recv" and .via == "in-band"'
	valid
	merged_ordered 800
	run -2 "$TIDEMARK" up --pin-dir "$PIN" --peer 10.0.0.0/8 --stamp-sample 0
}

@test "how far the clocks of hosts are apart is seen from both, and the bounds hold" {
	wire a b 1
	tcp_echo_start b 9000
	hosts
	tcp_same a 10.1.0.2 9000 200 50
	# b sees a ahead by 2 h and 3 s, to a tenth of a second.
	"$TIDEMARK" show --skew --json --pin-dir /sys/fs/bpf/b | jq -se '
		length == 1 and .[0].remote == "10.1.0.1" and .[0].stamps >= 50 and
		(7203e9 - .[0].least_ns | . >= 0 and . < 1e8) and
		(.[0].most_ns - 7203e9 | . > -1e8 and . < 1e8) and .[0].least_ns <= .[0].most_ns + 1e7'
	# a knows that b is not ahead, for what it hears from there is its own time again; and how
	# far b is behind at most, if a stamp is from before they met.
	"$TIDEMARK" show skew --json --pin-dir /sys/fs/bpf/a |
		jq -e '.most_ns < 1e8 and (.least_ns // -7203e9) < -7202.9e9'
	hosts_stop
}

@test "what is not a range, a span or a port is refused, and nothing is changed" {
	run -2 --separate-stderr "$TIDEMARK" up --pin-dir "$PIN" --peer 10.0.0.0/33
	[[ $stderr == *'--peer 10.0.0.0/33: not a range'* ]]
	run -2 "$TIDEMARK" up --pin-dir "$PIN" --peer example.org
	run -2 "$TIDEMARK" up --pin-dir "$PIN" --peer fd00::/129
	run -2 "$TIDEMARK" up --pin-dir "$PIN" --max-ahead soon
	run -2 "$TIDEMARK" up --pin-dir "$PIN" --no-stamp-port 0
	[ ! -e "$PIN" ]
}

@test "peers are shown, and added to a datapath that is up" {
	tm up -n netns:a --peer 10.0.0.0/8 --max-ahead 10s
	tm up --peer fd00:1::7/64
	[ "$(tm show peers --json | jq -r .peer | sort | xargs)" = '10.0.0.0/8 fd00:1::/64' ]
	tm show peers --json | jq -se 'all(.[]; .max_ahead_ns == 10e9)'
}
