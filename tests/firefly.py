#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""A collector: keeps datagrams, one a line, until SIGTERM; or judges what it has kept.

    firefly.py listen FILE ADDRESS PORT
    firefly.py judge SCHEMA FILE...    exit 1 if one is wrong; prints counts as JSON
"""
import json
import re
import signal
import socket
import sys

# What the collector's pattern takes: priority, version 1, a time or -, host, application,
# process, kind, no structured data, and the JSON.
PATTERN = re.compile(
    r"^<[0-9]{1,3}>1 "
    r"(-|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?"
    r"(?:Z|[+-][0-9]{2}:?[0-9]{2})) "
    r"(-|[0-9A-Za-z][0-9A-Za-z.-]*) (-|[!-~]+) (-|[!-~]+) firefly-json (-|\[.*?\]) (\{.*\})$"
)


def listen(name, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    s.bind((address, int(port)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with open(name, "wb", buffering=0) as out:
        while True:
            data, peer = s.recvfrom(65535)
            out.write(data + b"\n")


def judge(schema, names):
    from jsonschema import Draft202012Validator, FormatChecker

    schema = json.load(open(schema))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    counts = {"all": 0, "bad": 0, "start": 0, "ongoing": 0, "end": 0, "flows": 0, "whole": 0}
    seen = {}
    for name in names:
        for line in open(name, errors="surrogateescape"):
            counts["all"] += 1
            match = PATTERN.match(line.rstrip("\n"))
            words = None if match else "the pattern does not match"
            if match:
                what = json.loads(match.group(6))
                words = next((e.message for e in validator.iter_errors(what)), None)
            if words:
                counts["bad"] += 1
                print(f"{words}: {line}", file=sys.stderr)
                continue
            state = what["flow-lifecycle"]["state"]
            counts[state] += 1
            key = json.dumps([what["flow-id"], what["flow-lifecycle"]["start-time"]])
            seen.setdefault(key, []).append(state)
    counts["flows"] = len(seen)
    # Begins with its one start, ends with its one end, nothing else but ongoing between.
    counts["whole"] = sum(
        s[0] == "start" and s[-1] == "end" and set(s[1:-1]) <= {"ongoing"}
        for s in seen.values()
    )
    print(json.dumps(counts))
    return 1 if counts["bad"] or not counts["all"] else 0


if sys.argv[1] == "listen":
    listen(*sys.argv[2:5])
elif sys.argv[1] == "judge":
    sys.exit(judge(sys.argv[2], sys.argv[3:]))
