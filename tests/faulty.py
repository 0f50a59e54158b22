# SPDX-License-Identifier: GPL-2.0-only
# A wire with faults: every frame between two devices passes through here. Seeded, so repeatable.
import random
import select
import socket
import struct
import sys

A, B, MODE = sys.argv[1:4]
OPTION = 253
rng = random.Random(5)


def device(name):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
    s.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
    s.bind((name, 0))
    return s


def tcp_options(frame):
    """Where the TCP header and its options are; None: no TCP."""
    kind = frame[12:14]
    if kind == b"\x08\x00" and frame[23] == 6:
        tcp = 14 + (frame[14] & 15) * 4
    elif kind == b"\x86\xdd" and frame[20] == 6:
        tcp = 54
    else:
        return None
    return tcp, tcp + 20, tcp + (frame[tcp + 12] >> 4) * 4


def ours(frame, at, end):
    """Offset of the option, or None."""
    while at < end and frame[at]:
        if frame[at] == 1:
            at += 1
            continue
        if frame[at] == OPTION:
            return at
        at += max(frame[at + 1], 2)
    return None


def strip(frame):
    """No operation instead of the option; the checksum follows."""
    where = tcp_options(frame)
    at = where and ours(frame, where[1], where[2])
    if at is None or not where:
        return frame
    frame = bytearray(frame)
    n = frame[at + 1]
    tcp, sum_at = where[0], where[0] + 16
    before = bytes(frame[at : at + n])
    frame[at : at + n] = b"\x01" * n
    check = ~struct.unpack_from("!H", frame, sum_at)[0] & 0xFFFF
    odd = (at - tcp) & 1
    for i in range(n):
        shift = 0 if (i + odd) & 1 else 8
        check += (1 << shift) + ((~(before[i] << shift)) & 0xFFFF)
    while check >> 16:
        check = (check & 0xFFFF) + (check >> 16)
    struct.pack_into("!H", frame, sum_at, ~check & 0xFFFF)
    return bytes(frame)


def cut(frame):
    """A datagram without what is behind it: as a middlebox that knows only UDP would send it."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[20] & 0x3F or frame[21]:
        return frame
    ip = (frame[14] & 15) * 4
    length = struct.unpack_from("!H", frame, 14 + ip + 4)[0]
    if struct.unpack_from("!H", frame, 16)[0] <= ip + length:
        return frame
    frame = bytearray(frame[: 14 + ip + length])
    struct.pack_into("!H", frame, 16, ip + length)
    struct.pack_into("!H", frame, 24, 0)
    check = sum(struct.unpack_from(f"!{ip // 2}H", frame, 14))
    while check >> 16:
        check = (check & 0xFFFF) + (check >> 16)
    struct.pack_into("!H", frame, 24, ~check & 0xFFFF)
    return bytes(frame)


def rejected(frame):
    where = tcp_options(frame)
    return where and ours(frame, where[1], where[2]) is not None


a, b = device(A), device(B)
print("ready", flush=True)
held = {}
while True:
    timeout = 0.002 if held else None
    for s in select.select([a, b], [], [], timeout)[0]:
        to = b if s is a else a
        frame = s.recv(65536)
        if MODE == "loss":
            dice = rng.random()
            if dice < 0.03:
                continue
            if dice < 0.06 and to not in held:
                held[to] = frame  # let the next one overtake it
                continue
            if dice < 0.09:
                to.send(frame)
        elif MODE == "strip":
            frame = cut(strip(frame))
        elif MODE == "reject" and rejected(frame):
            print("rejected", flush=True)
            continue
        to.send(frame)
        if to in held:
            to.send(held.pop(to))
    if timeout:
        for to, frame in list(held.items()):
            to.send(held.pop(to))
