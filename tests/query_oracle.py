#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# Generates queries over a pcap and compares what `query -w -` returns with what tshark reads there.
"""usage: query_oracle.py TIDEMARK PCAP QUERIES SEED DIR...; says each disagreement."""
import concurrent.futures
import datetime
import ipaddress
import random
import struct
import subprocess
import sys

FIELDS = """frame.time_epoch frame.len eth.type vlan.id ieee8021ad.id vlan.etype mpls.label ip.src
ip.dst ipv6.src ipv6.dst arp.src.proto_ipv4 arp.dst.proto_ipv4 tcp.srcport tcp.dstport udp.srcport
udp.dstport sctp.srcport sctp.dstport dccp.srcport dccp.dstport icmp.type icmpv6.type gre.proto
vxlan.vni geneve.vni ip.id ip.frag_offset ip.flags.mf ipv6.fraghdr.ident ipv6.fraghdr.offset
ipv6.fraghdr.more ip.proto ipv6.fraghdr.nxt ipv6.nxt ipv6.dstopts.nxt frame.protocols""".split()

# What has ports, and whose fields tshark gives them in.
PORTED = {'tcp': 'tcp', 'udp': 'udp', 'udplite': 'udp', 'sctp': 'sctp', 'dccp': 'dccp'}
PROTOS = {'tcp': 6, 'udp': 17, 'icmp': 1, 'icmp6': 58, 'sctp': 132, 'dccp': 33, 'udplite': 136,
          'igmp': 2, 'gre': 47}


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


class Layer:
    """An IP header and what it carries: source and destination by name, ports by protocol."""

    def __init__(self, source, destination, number=None):
        self.address = {'src': source, 'dst': destination}
        self.number = number  # behind extension headers
        self.protos = set()
        self.ports = {}


class Packet:
    """What tshark says of a frame: layers, the outer one and perhaps one in a tunnel."""

    def __init__(self, row, first):
        f = dict(zip(FIELDS, row))
        seconds, _, fraction = f['frame.time_epoch'].partition('.')
        self.ns = int(seconds) * 10**9 + int(fraction.ljust(9, '0')[:9] or 0)
        self.length = int(f['frame.len'])
        protocols = f['frame.protocols'].split(':')
        self.vlans = set(numbers(f['vlan.id']) + numbers(f['ieee8021ad.id']))
        self.mpls = numbers(f['mpls.label'])[:1]
        self.vnis = set(numbers(f['vxlan.vni']) + numbers(f['geneve.vni']))
        self.arp = 'arp' in protocols
        headers = [p for p in protocols if p in ('ip', 'ipv6')]
        self.ip = headers[:1] == ['ip']
        self.ip6 = headers[:1] == ['ipv6']
        self.layers = self.layers_of(f, protocols)
        self.fragments(f, first)

    @staticmethod
    def layers_of(f, protocols):
        """The fields of several headers stand one after the other, as their names do."""
        left = {k: f[k].split(',') for k in FIELDS}
        layers = []
        if f['arp.src.proto_ipv4']:
            layers.append(Layer(ipaddress.ip_address(f['arp.src.proto_ipv4']),
                                ipaddress.ip_address(f['arp.dst.proto_ipv4'])))
        for name in protocols:
            if name in ('ip', 'ipv6'):
                ends = [ipaddress.ip_address(left[f'{name}.{e}'].pop(0)) for e in ('src', 'dst')]
                number = left['ip.proto' if name == 'ip' else 'ipv6.nxt'].pop(0)
                layers.append(Layer(*ends, int(number)))
            elif name == 'ipv6.fraghdr':
                layers[-1].number = int(left['ipv6.fraghdr.nxt'].pop(0), 0)
            elif name == 'ipv6.dstopts':
                layers[-1].number = int(left['ipv6.dstopts.nxt'].pop(0), 0)
            elif name in PORTED and layers and not layers[-1].protos:
                layers[-1].protos.add(name)
                layers[-1].ports[name] = {e: int(left[f'{PORTED[name]}.{e}port'].pop(0))
                                          for e in ('src', 'dst')}
            elif name in ('icmp', 'icmpv6', 'igmp', 'gre') and layers:
                layers[-1].protos.add('icmp6' if name == 'icmpv6' else name)
        return layers

    def fragments(self, f, first):
        """A later fragment has the ports, and the protocol, of the first of its datagram."""
        if not self.layers or not (self.ip or self.ip6):
            return
        outer = self.layers[0]
        if self.ip:
            key = (4, *outer.address.values(), f['ip.id'].split(',')[0])
            offset = int(f['ip.frag_offset'].split(',')[0])
            more = f['ip.flags.mf'].split(',')[0] in ('1', 'True')
        elif f['ipv6.fraghdr.ident'] and len(self.layers) == 1:
            key = (6, *outer.address.values(), f['ipv6.fraghdr.ident'])
            offset, more = int(f['ipv6.fraghdr.offset']), f['ipv6.fraghdr.more'] in ('1', 'True')
        else:
            return
        if not offset and more:
            first[key] = outer
        elif offset:
            if key in first:
                outer.ports, outer.protos = first[key].ports, first[key].protos

    def of(self, sides):
        """Which layers `inner` and `outer` mean."""
        return {'': self.layers[:2], 'outer ': self.layers[:1], 'inner ': self.layers[1:2]}[sides]

    def all_ports(self, protos, ends, sides=''):
        return {l.ports[p][e] for l in self.of(sides) for p in protos if p in l.ports
                for e in ends}

    def all_addresses(self, ends=('src', 'dst'), sides=''):
        return {l.address[e] for l in self.of(sides) for e in ends}

    def all_numbers(self, sides=''):
        return {l.number for l in self.of(sides) if l.number is not None}


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
        word = self.random.choice(['', '', 'src ', 'dst ', 'src or dst ', 'src and dst '])
        named = tuple(end for end in ('src', 'dst') if end in word) or ('src', 'dst')
        return word, named, all if ' and ' in word else any

    def sides(self):
        return self.random.choice(['', '', '', 'inner ', 'outer '])

    def some(self, holds):
        while True:
            packet = self.random.choice(self.packets)
            if holds(packet):
                return packet

    def address(self):
        packet = self.some(lambda p: p.layers)
        return self.random.choice(sorted(packet.all_addresses(), key=str))

    def host(self):
        sides, (word, ends, how) = self.sides(), self.ends()
        address = self.address()
        if self.random.random() < .1:
            address = ipaddress.ip_address('203.0.113.77')
        return (f'{sides}{word}host {address}',
                lambda p: how(address in p.all_addresses((e,), sides) for e in ends))

    def net(self):
        sides, (word, ends, how) = self.sides(), self.ends()
        address = self.address()
        bits = self.random.randrange(0, address.max_prefixlen + 1)
        net = ipaddress.ip_network((address, bits), strict=False)
        text = f'{sides}{word}net {net}'
        if net.version == 4 and self.random.random() < .2:
            text = f'{sides}{word}net {net.network_address} mask {net.netmask}'
        return text, lambda p: how(any(a.version == net.version and a in net
                                       for a in p.all_addresses((e,), sides)) for e in ends)

    def port(self):
        sides, (word, ends, how) = self.sides(), self.ends()
        proto = self.random.choice(['', '', '', *(f'{name} ' for name in PORTED)])
        protos = [proto.strip()] if proto else list(PORTED)
        known = self.some(lambda p: p.all_ports(PORTED, ('src', 'dst'))).all_ports(
            PORTED, ('src', 'dst'))
        low = high = self.random.choice([*sorted(known), 0])
        text = f'{sides}{proto}{word}port {low}'
        if self.random.random() < .3:
            high = min(65535, low + self.random.randrange(2000))
            text = f'{sides}{proto}{word}portrange {low}-{high}'
        return text, lambda p: how(any(low <= n <= high for n in p.all_ports(protos, (e,), sides))
                                   for e in ends)

    def ports(self):
        """Values carry on."""
        known = sorted({n for _ in range(9) for n in self.some(
            lambda p: p.all_ports(PORTED, ('src', 'dst'))).all_ports(PORTED, ('src', 'dst'))})
        chosen = self.random.sample(known, min(3, len(known)))
        text = ' or '.join(map(str, chosen))
        return (self.random.choice([f'port ({text})', f'(port {text})']),
                lambda p: bool(set(chosen) & p.all_ports(PORTED, ('src', 'dst'))))

    def proto(self):
        name = self.random.choice(['arp', 'ip', 'ip6', *PROTOS])
        if name in ('arp', 'ip', 'ip6'):
            return name, lambda p: getattr(p, name)
        sides = self.sides()
        if self.random.random() < .3:
            number = PROTOS[name]
            return f'{sides}proto {number}', lambda p: number in p.all_numbers(sides)
        return f'{sides}{name}', lambda p: any(l.number == PROTOS[name] for l in p.of(sides))

    def conn(self):
        packet = self.some(lambda p: any(l.ports for l in p.layers))
        layer = self.random.choice([l for l in packet.layers if l.ports])
        name = sorted(layer.ports)[0]
        ends = [(layer.address[e], layer.ports[name][e]) for e in ('src', 'dst')]
        self.random.shuffle(ends)
        if self.random.random() < .1:
            ends[1] = (ends[1][0], ends[1][1] ^ 1)
        text = ' '.join(f'[{a}]:{n}' if a.version == 6 else f'{a}:{n}' for a, n in ends)
        return f'conn {text}', lambda p: any(
            sorted(((l.address[e], ports[e]) for e in ('src', 'dst')), key=str) ==
            sorted(ends, key=str) for l in p.layers[:2] for ports in l.ports.values())

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
        if self.random.random() < .2:  # the packets are years old, and of one second
            span = self.random.choice(['5m ago', '36h ago', '2d', '90s'])
            return self.random.choice([(f'before {span}', lambda p: True),
                                       (f'after {span}', lambda p: False)])
        if self.random.random() < .1:
            return 'after 9000d ago', lambda p: True
        text = f'{ns // 10**9}.{ns % 10**9:09}'
        if self.random.random() < .5:
            at = datetime.datetime.fromtimestamp(ns // 10**9, datetime.timezone.utc)
            text = f'{at:%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09}Z'
            if self.random.random() < .5:
                text = text.replace('T', ' ')
        if self.random.random() < .5:
            return f'before {text}', lambda p: p.ns < ns
        return f'after {text}', lambda p: p.ns >= ns

    def length(self):
        n = self.random.choice(self.packets).length
        if self.random.random() < .5:
            return f'less {n}', lambda p: p.length <= n
        return f'greater {n}', lambda p: p.length >= n

    def chain(self, depth):
        """Without parentheses: `and` and `or` bind alike, from the left."""
        text, holds = self.any(depth)
        for _ in range(self.random.randrange(1, 4)):
            word = self.random.choice(['and', 'or', '&&', '||'])
            more, also = self.any(depth)
            text = f'{text} {word} {more}'
            holds = (lambda f, g: lambda p: f(p) and g(p))(holds, also) \
                if word in ('and', '&&') else (lambda f, g: lambda p: f(p) or g(p))(holds, also)
        return text, holds

    def any(self, depth):
        draw = self.random.random()
        if depth and draw < .5:
            text, holds = self.chain(depth - 1)
            return f'({text})', holds
        if depth and draw < .7:
            text, holds = self.any(depth - 1)
            return self.random.choice(['not ', '! ', '!']) + text, lambda p: not holds(p)
        return self.random.choice([self.host, self.host, self.net, self.port, self.port, self.ports,
                                   self.proto, self.proto, self.conn, self.tag, self.time,
                                   self.length])()

    def whole(self):
        return self.random.choice([self.any, self.chain])(3)


def main():
    tidemark, path, count, seed = sys.argv[1:5]
    directories = [word for d in sys.argv[5:] for word in ('-d', d)]
    frames, packets = pcap_read(path), packets_read(path)
    if len(frames) != len(packets):
        sys.exit(f'tshark read {len(packets)} of {len(frames)} packets')
    order = sorted(range(len(frames)), key=lambda i: frames[i][0])
    queries, wrong, nonempty = Queries(packets, int(seed)), 0, 0
    asked = [queries.whole() for _ in range(int(count))]

    def answer(query):
        """What is wrong about it, if anything, and whether there is anything to find."""
        text, holds = query
        found = subprocess.run([tidemark, 'query', *directories, '--by', 'time', '-w', '-', text],
                               check=True, capture_output=True).stdout
        counted = subprocess.run([tidemark, 'query', *directories, '--count', text], check=True,
                                 capture_output=True, text=True).stdout
        got, want = pcapng_parse(found), [frames[i] for i in order if holds(packets[i])]
        if got == want and int(counted) == len(want):
            return None, bool(want)
        return f'{text}: {len(got)} packets, counted {counted}, want {len(want)}', bool(want)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for complaint, found in pool.map(answer, asked):
            nonempty += found
            if complaint:
                wrong += 1
                print(complaint)
    print(f'{count} queries, {nonempty} with packets, {wrong} wrong')
    sys.exit(wrong > 0)


main()
