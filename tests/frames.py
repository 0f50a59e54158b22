# SPDX-License-Identifier: GPL-2.0-only
"""An independent reader of pcap and pcapng, and an oracle of what a cutoff keeps."""
import glob
import struct
import sys


def pcap(path):
    data = open(path, "rb").read()
    at, frames = 24, []
    while at + 16 <= len(data):
        seconds, fraction, kept, _ = struct.unpack_from("<IIII", data, at)
        if at + 16 + kept > len(data):
            break
        frames.append((seconds * 10**9 + fraction, data[at + 16:at + 16 + kept]))
        at += 16 + kept
    return frames


def pcapng(path):
    data = open(path, "rb").read()
    at, frames = 0, []
    while at + 12 <= len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if length < 12 or at + length > len(data):
            break
        if kind == 6:
            _, high, low, kept, _ = struct.unpack_from("<IIIII", data, at + 8)
            frames.append((high << 32 | low, data[at + 28:at + 28 + kept]))
        at += length
    return frames


def record(folder):
    frames = []
    for path in sorted(glob.glob(folder + "/*/*.pcapng") + glob.glob(folder + "/*/*.open")):
        frames += pcapng(path)
    return frames


def read(path):
    import os
    if os.path.isdir(path):
        return record(path)
    return pcap(path) if open(path, "rb").read(4) != b"\n\r\r\n" else pcapng(path)


def key(frame, parts):
    """The flow and the TCP flags, of plain Ethernet, or None."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    flags = 0
    if kind == 0x0800:
        source, destination, protocol = frame[26:30], frame[30:34], frame[23]
        word = struct.unpack_from("!H", frame, 20)[0]
        offset, more, at = word & 0x1fff, word & 0x2000, 34
        part = (source, destination, frame[18:20])
    elif kind == 0x86DD:
        source, destination, protocol, at = frame[22:38], frame[38:54], frame[20], 54
        offset, more, part = 0, 0, None
        if protocol == 44:
            protocol, word = frame[54], struct.unpack_from("!H", frame, 56)[0]
            offset, more, at = word & 0xfff8, word & 1, 62
            part = (source, destination, frame[58:62])
    else:
        return None, 0
    if offset:
        ports = parts.get(part)
        if ports is None:
            return None, 0
    elif protocol in (6, 17):
        ports = struct.unpack_from("!HH", frame, at)
        flags = frame[at + 13] if protocol == 6 else 0
    elif frame[at] in ((8, 0) if protocol == 1 else (128, 129)):
        echo = struct.unpack_from("!H", frame, at + 4)[0]
        ports = (echo, echo)
    else:
        ports = (0, 0)
    if more and not offset:
        parts[part] = ports
    ends = sorted([(source, ports[0]), (destination, ports[1])])
    return (protocol, *ends), flags


def cut(frames, cutoff):
    """Those of a trace that a cutoff keeps, packet by packet."""
    before, parts, kept = {}, {}, []
    for when, frame in frames:
        flow, flags = key(frame, parts)
        seen = before.get(flow, 0)
        if flow is None or seen < cutoff or flags & 7:
            kept.append((when, frame))
        if flow is not None:
            before[flow] = seen + len(frame)
    return kept


def main():
    if sys.argv[1] == "count":
        print(len(read(sys.argv[2])))
        return
    want, got = read(sys.argv[2]), read(sys.argv[3])
    if sys.argv[1] == "cut":
        want = cut(want, int(sys.argv[4]))
    if sys.argv[1] == "bytes":  # other clocks: only the frames and their order
        want, got = [f for _, f in want], [f for _, f in got]
    if want != got:
        print(f"want {len(want)} frames, got {len(got)}", file=sys.stderr)
        for i, (a, b) in enumerate(zip(want, got)):
            if a != b:
                print(f"frame {i}:\n  want {a}\n  got  {b}", file=sys.stderr)
                break
        sys.exit(1)
    print(len(got))


main()
