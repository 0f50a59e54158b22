# SPDX-License-Identifier: GPL-2.0-only
"""For labs of segmentation: senders of many datagrams in one buffer, and judges of what arrives.

send HOST PORT SIZE COUNT BUFFERS     each buffer has COUNT datagrams of SIZE, and one of a third
receive PORT SIZE COUNT BUFFERS [gro] exits 0 when just those have come, in order, byte by byte
tun SIZE COUNT BUFFERS FEATURES HOW...  makes t0, judges what it is sent; 1 CSUM, 32 USO4, 64 USO6
udp PCAP SIZE COUNT BUFFERS HOW       judges the frames on a wire: options, lengths, checksums
tcp PCAP FILE LEAST LONGEST HOW       of a stream: LEAST per mille of its segments have the option
"""
import fcntl
import random
import socket
import struct
import sys

UDP_SEGMENT, UDP_GRO = 103, 104
OPTION = bytes((0x1E, 3, 0, 2, 9, 0))  # experiment 2, activity 9
CHAINS = {
    "none": [],
    "label": [],
    "hop-by-hop": [0],
    "destination": [60],
    "hop-by-hop+destination": [0, 60],
}


def datagram(n, size):
    return struct.pack("!I", n) + random.Random(n).randbytes(size - 4)


def datagrams(size, count):
    """Of one buffer: their sizes."""
    return [size] * count + [size // 3]


def expected(size, count, buffers):
    sizes = datagrams(size, count) * buffers
    return [datagram(n, s) for n, s in enumerate(sizes)]


def send(host, port, size, count, buffers):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    if count:
        s.setsockopt(socket.SOL_UDP, UDP_SEGMENT, size)
    s.connect((host, port))
    whole = expected(size, count, buffers)
    for n in range(0, len(whole), count + 1):
        s.send(b"".join(whole[n : n + count + 1]))


def receive(port, size, count, buffers, gro=None):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    if gro:
        s.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
    s.bind(("::", port))
    s.settimeout(20)
    together = 0
    want = expected(size, count, buffers)
    at = 0
    while at < len(want):
        data, notes, _, _ = s.recvmsg(65535, 64)
        step = len(data)
        for level, kind, note in notes:
            if (level, kind) == (socket.SOL_UDP, UDP_GRO):
                step = struct.unpack("i", note)[0]
        together += step < len(data)
        for n in range(0, len(data), step):
            assert data[n : n + step] == want[at], (at, len(data), step, len(want[at]))
            at += 1
    print(f"{at} datagrams, {together} times several at once")


def checksum(p):
    if len(p) % 2:
        p += b"\0"
    total = sum(struct.unpack(f"!{len(p) // 2}H", p))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def transport(p):
    """An IPv6 packet's extension headers, its protocol, and where that begins."""
    assert p[0] >> 4 == 6 and len(p) == 40 + struct.unpack_from("!H", p, 4)[0], p[:80].hex()
    at, kind, chain = 40, p[6], []
    while kind in (0, 60):
        assert p[at + 1] == 0 and p[at + 2 : at + 8] == OPTION, p[:80].hex()
        chain.append(kind)
        at, kind = at + 8, p[at]
    return chain, kind, at


def sound(p, kind, at):
    pseudo = p[8:40] + struct.pack("!II", len(p) - at, kind)
    return checksum(pseudo + p[at:]) == 0


def has_mark(p, chain, how):
    label = int.from_bytes(p[1:4], "big") & 0xFFFFF
    return chain == CHAINS[how] and (label & ~0xC0103 == 0x10024) == (how == "label")


def from_a(p):
    nets = (socket.inet_pton(socket.AF_INET6, net)[:8] for net in ("fd00:1::", "fd00:9::"))
    return p[8:16] in nets


def frames(pcap):
    """The IPv6 packets of a capture, each whole."""
    data = open(pcap, "rb").read()
    at = 24
    while at < len(data):
        kept, length = struct.unpack_from("<II", data, at + 8)
        p = data[at + 16 : at + 16 + kept]
        at += 16 + kept
        assert kept == length, "captured in part"
        if p[12:14] == b"\x86\xdd" and from_a(p[14:]):
            yield p[14:]


def udp(pcap, size, count, buffers, how):
    want, got = expected(size, count, buffers), []
    for p in frames(pcap):
        chain, kind, at = transport(p)
        if kind != 17 or struct.unpack_from("!H", p, at + 2)[0] != 7777:
            continue
        assert len(p) <= 1500 and sound(p, kind, at), p[:80].hex()
        assert has_mark(p, chain, how), p[:80].hex()
        assert struct.unpack_from("!H", p, at + 4)[0] == len(p) - at, p[:80].hex()
        got.append(p[at + 8 :])
    assert got == want, (len(got), len(want))
    print(f"{len(got)} datagrams on the wire, {how}")


def tcp(pcap, file, least, most, how):
    want = open(file, "rb").read()
    parts, marked, full, longest, start = {}, 0, 0, 0, 0
    for p in frames(pcap):
        chain, kind, at = transport(p)
        if kind != 6 or struct.unpack_from("!H", p, at + 2)[0] != 5201:
            continue
        seq = struct.unpack_from("!I", p, at + 4)[0]
        if p[at + 13] & 2:
            start = seq + 1
        data = p[at + (p[at + 12] >> 4) * 4 :]
        assert sound(p, kind, at), p[:80].hex()
        longest = max(longest, len(p))
        if data:
            assert not chain or has_mark(p, chain, how), p[:80].hex()
            parts.setdefault((seq - start) & 0xFFFFFFFF, []).append((data, bool(chain)))
    got = bytearray()
    segments = [(seq, s) for seq, same in parts.items() for s in same]
    for seq, (data, chain) in sorted(segments, key=lambda s: s[0]):
        assert seq <= len(got), f"nothing at {len(got)}"
        got[seq : seq + len(data)] = data
        marked += chain
    assert bytes(got) == want, (len(got), len(want))
    print(f"{marked} of {len(segments)} segments with the option, the longest {longest}")
    assert longest == most and marked * 1000 >= len(segments) * least


def tun(size, count, buffers, features, *hows):
    """All that is sent to a device of our own: 10 bytes of virtio's header, then the packet."""
    f = open("/dev/net/tun", "r+b", buffering=0)
    fcntl.ioctl(f, 0x400454CA, struct.pack("16sH22x", b"t0", 0x5001))  # TUN, NO_PI, VNET_HDR
    try:
        fcntl.ioctl(f, 0x400454D0, features)  # TUNSETOFFLOAD
    except OSError as error:
        print("refused:", error, flush=True)
        return
    print("made", flush=True)
    want = expected(size, count, buffers)
    for how in hows:
        got, large = [], 0
        while len(got) < len(want):
            data = f.read(70000)
            p = data[10:]
            if from_a(p) and p.find(struct.pack("!H", 7777), 40, 60) > 0:
                large += tun_packet(got, p, data, size, how)
        assert got == want, (how, len(got), len(want))
        assert bool(large) == bool(features & 64), large
        print(f"{len(got)} datagrams in order, {how}, {large} buffers uncut", flush=True)


def tun_packet(got, p, data, size, how):
    """Adds its datagrams; is it more than one?"""
    flags, gso, _, step, start, offset = struct.unpack_from("<BBHHHH", data)
    chain, kind, at = transport(p)
    assert kind == 17 and has_mark(p, chain, how), p[:80].hex()
    assert flags & 1 and (start, offset) == (at, 6), (flags, start, offset, at)
    if gso:
        assert gso == 5 and step == size and at + 8 + step <= 1500, (gso, step)
    else:
        assert len(p) <= 1500, len(p)
        step = len(p)
    summed = bytearray(p)
    struct.pack_into("!H", summed, at + 6, checksum(p[at:]))
    assert sound(bytes(summed), kind, at), p[:80].hex()
    got += [p[n : n + step] for n in range(at + 8, len(p), step)]
    return gso != 0


def main():
    what = {f.__name__: f for f in (send, receive, tun, udp, tcp)}[sys.argv[1]]
    what(*(int(a) if a.isdigit() else a for a in sys.argv[2:]))


main()
