#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# Generates queries over a pcap and compares what `query -w -` returns with what tshark reads there.
"""usage: query_oracle.py TIDEMARK PCAP QUERIES SEED DIR...; says each disagreement."""
import ipaddress
import random
import struct
import subprocess
import sys

FIELDS = """frame.time_epoch frame.len eth.type vlan.id vlan.etype mpls.label ip.src ip.dst ipv6.src
ipv6.dst arp.src.proto_ipv4 arp.dst.proto_ipv4 tcp.srcport tcp.dstport udp.srcport udp.dstport
icmp.type icmpv6.type gre.proto vxlan.vni geneve.vni ip.id ip.frag_offset ip.flags.mf
ipv6.fraghdr.ident ipv6.fraghdr.offset ipv6.fraghdr.more ip.proto ipv6.fraghdr.nxt ipv6.nxt
frame.protocols""".split()


def pcap_read(path):
    data = open(path, 'rb').read()
    at, packets = 24, []
    while at < len(data):
        seconds, ns, kept, wire = struct.unpack_from('<IIII', data, at)
        at += 16
        packets.append((seconds * 10**9 + ns, wire, data[at:at + kept]))
        at += kept
    return packets


def pcapng_parse(data):
    at, packets = 0, []
    while at < len(data):
        kind, length = struct.unpack_from('<II', data, at)
        if kind == 6:
            _, high, low, kept, wire = struct.unpack_from('<IIIII', data, at + 8)
            packets.append((high << 32 | low, wire, data[at + 28:at + 28 + kept]))
        at += length
    return packets


def numbers(text):
    return [int(word, 0) for word in text.split(',') if word]


class Packet:
    """What tshark says of a frame: sets, because a frame may have several layers of a kind."""

    def __init__(self, row, first):
        f = dict(zip(FIELDS, row))
        seconds, _, fraction = f['frame.time_epoch'].partition('.')
        self.ns = int(seconds) * 10**9 + int(fraction.ljust(9, '0')[:9] or 0)
        self.length = int(f['frame.len'])
        self.src = {ipaddress.ip_address(a) for k in ('ip.src', 'ipv6.src', 'arp.src.proto_ipv4')
                    for a in f[k].split(',') if a}
        self.dst = {ipaddress.ip_address(a) for k in ('ip.dst', 'ipv6.dst', 'arp.dst.proto_ipv4')
                    for a in f[k].split(',') if a}
        self.ports = {(p, d): set(numbers(f[f'{p}.{d}port'])) for p in ('tcp', 'udp')
                      for d in ('src', 'dst')}
        protocols = f['frame.protocols'].split(':')
        self.protos = {p for p in ('tcp', 'udp', 'icmp', 'gre') if p in protocols}
        if 'icmpv6' in protocols:
            self.protos.add('icmp6')
        self.vlans = set(numbers(f['vlan.id']))
        self.mpls = numbers(f['mpls.label'])[:1]
        self.vnis = set(numbers(f['vxlan.vni']) + numbers(f['geneve.vni']))
        self.arp = 'arp' in protocols
        layers = [p for p in protocols if p in ('ip', 'ipv6')]
        self.ip = layers[:1] == ['ip']
        self.ip6 = layers[:1] == ['ipv6']
        self.fragments(f, first)

    def fragments(self, f, first):
        """A later fragment has the ports, and the protocol, of the first of its datagram."""
        if f['ip.id'] and f['ip.frag_offset'] and ',' not in f['ip.frag_offset']:
            key = (4, f['ip.src'], f['ip.dst'], f['ip.id'])
            offset, more = int(f['ip.frag_offset']), f['ip.flags.mf'] in ('1', 'True')
        elif f['ipv6.fraghdr.ident'] and ',' not in f['ipv6.fraghdr.ident']:
            key = (6, f['ipv6.src'], f['ipv6.dst'], f['ipv6.fraghdr.ident'])
            offset, more = int(f['ipv6.fraghdr.offset']), f['ipv6.fraghdr.more'] in ('1', 'True')
        else:
            return
        if not offset and more:
            first[key] = (self.ports, self.protos)
        elif offset:
            self.protos |= {n for n, name in ((6, 'tcp'), (17, 'udp'), (1, 'icmp'), (58, 'icmp6'))
                            for v in (f['ip.proto'], f['ipv6.fraghdr.nxt']) if v == str(n)
                            for n in (name,)}
            if key in first:
                self.ports, self.protos = first[key][0], self.protos | first[key][1]

    def all_ports(self, protos, ends):
        return {n for p in protos for d in ends for n in self.ports[p, d]}


def packets_read(path):
    command = ['tshark', '-n', '-r', path, '-T', 'fields', '-E', 'separator=|', '-o',
               'ip.defragment:FALSE', '-o', 'ipv6.defragment:FALSE', '-o',
               'tcp.desegment_tcp_streams:FALSE']
    for field in FIELDS:
        command += ['-e', field]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    first = {}
    return [Packet(line.split('|'), first) for line in text.splitlines()]


class Queries:
    """Expressions with what they mean: pairs of text and a predicate."""

    def __init__(self, packets, seed):
        self.packets = packets
        self.random = random.Random(seed)

    def ends(self):
        word = self.random.choice(['', '', 'src ', 'dst '])
        return word, {'': ('src', 'dst'), 'src ': ('src',), 'dst ': ('dst',)}[word]

    def host(self):
        word, ends = self.ends()
        while True:
            packet = self.random.choice(self.packets)
            if packet.src:
                break
        address = self.random.choice(sorted(packet.src | packet.dst, key=str))
        if self.random.random() < .1:
            address = ipaddress.ip_address('203.0.113.77')
        return (f'{word}host {address}', lambda p: any(address in getattr(p, e) for e in ends))

    def net(self):
        word, ends = self.ends()
        while True:
            packet = self.random.choice(self.packets)
            if packet.src:
                break
        address = self.random.choice(sorted(packet.src | packet.dst, key=str))
        bits = self.random.randrange(0, address.max_prefixlen + 1)
        net = ipaddress.ip_network((address, bits), strict=False)
        return (f'{word}net {net}', lambda p: any(a.version == net.version and a in net
                                                  for e in ends for a in getattr(p, e)))

    def port(self):
        word, ends = self.ends()
        proto = self.random.choice(['', '', 'tcp ', 'udp '])
        protos = [proto.strip()] if proto else ['tcp', 'udp']
        while True:
            packet = self.random.choice(self.packets)
            known = packet.all_ports(protos, ('src', 'dst'))
            if known:
                break
        low = high = self.random.choice(sorted(known))
        text = f'{proto}{word}port {low}'
        if self.random.random() < .3:
            high = min(65535, low + self.random.randrange(2000))
            text = f'{proto}{word}portrange {low}-{high}'
        return text, lambda p: any(low <= n <= high for n in p.all_ports(protos, ends))

    def proto(self):
        name = self.random.choice(['tcp', 'udp', 'icmp', 'icmp6', 'arp', 'ip', 'ip6'])
        if name in ('arp', 'ip', 'ip6'):
            return name, lambda p: getattr(p, name)
        return name, lambda p: name in p.protos

    def tag(self):
        kind = self.random.choice(['vlan', 'mpls', 'vni'])
        field = {'vlan': 'vlans', 'mpls': 'mpls', 'vni': 'vnis'}[kind]
        known = sorted({n for p in self.packets for n in getattr(p, field)})
        if not known or self.random.random() < .3:
            return kind, lambda p: bool(getattr(p, field))
        number = self.random.choice(known)
        return f'{kind} {number}', lambda p: number in getattr(p, field)

    def time(self):
        ns = self.random.choice(self.packets).ns
        text = f'{ns // 10**9}.{ns % 10**9:09}'
        if self.random.random() < .5:
            return f'before {text}', lambda p: p.ns < ns
        return f'after {text}', lambda p: p.ns >= ns

    def length(self):
        n = self.random.choice(self.packets).length
        if self.random.random() < .5:
            return f'less {n}', lambda p: p.length <= n
        return f'greater {n}', lambda p: p.length >= n

    def any(self, depth):
        draw = self.random.random()
        if depth and draw < .35:
            (a, f), (b, g) = self.any(depth - 1), self.any(depth - 1)
            return f'({a} and {b})', lambda p: f(p) and g(p)
        if depth and draw < .6:
            (a, f), (b, g) = self.any(depth - 1), self.any(depth - 1)
            return f'({a} or {b})', lambda p: f(p) or g(p)
        if depth and draw < .75:
            a, f = self.any(depth - 1)
            return f'not {a}', lambda p: not f(p)
        return self.random.choice([self.host, self.host, self.net, self.port, self.port,
                                   self.proto, self.tag, self.time, self.length])()


def main():
    tidemark, path, count, seed = sys.argv[1:5]
    directories = [word for d in sys.argv[5:] for word in ('-d', d)]
    frames, packets = pcap_read(path), packets_read(path)
    if len(frames) != len(packets):
        sys.exit(f'tshark read {len(packets)} of {len(frames)} packets')
    order = sorted(range(len(frames)), key=lambda i: frames[i][0])
    queries, wrong, nonempty = Queries(packets, int(seed)), 0, 0
    for _ in range(int(count)):
        text, holds = queries.any(3)
        want = [frames[i] for i in order if holds(packets[i])]
        got = pcapng_parse(subprocess.run([tidemark, 'query', *directories, '--by', 'time', '-w',
                                           '-', text], check=True, capture_output=True).stdout)
        counted = subprocess.run([tidemark, 'query', *directories, '--count', text], check=True,
                                 capture_output=True, text=True).stdout
        nonempty += bool(want)
        if got != want or int(counted) != len(want):
            wrong += 1
            lost = [packets[i].__dict__ for i in order if holds(packets[i]) and
                    frames[i] not in got][:1] if len(got) < 20000 else ''
            print(f'{text}: {len(got)} packets, counted {counted.strip()}, want {len(want)} {lost}')
    print(f'{count} queries, {nonempty} with packets, {wrong} wrong')
    sys.exit(wrong > 0)


main()
