# SPDX-License-Identifier: GPL-2.0-only
"""How soon a packet is found: fresh.py SENDS... -- QUERY...

Prints in ms: the median, the worst, what 99 of 100 are within.

For each of SENDS (address:port) a datagram is sent, and asked for until it is there. With --follow
in QUERY one process is asked for all of them.
"""
import json
import socket
import statistics
import subprocess
import sys
import time

split = sys.argv.index('--')
host, port, rounds = sys.argv[1:split]
query = sys.argv[split + 1:]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
spans = []


def send():
    sock.sendto(b'are you there?', (host, int(port)))
    return time.monotonic()


def polled(number):
    sent = send()
    while True:
        text = subprocess.run(query, check=True, capture_output=True, text=True).stdout
        if int(text) >= number:
            return time.monotonic() - sent
        if time.monotonic() - sent > 10:
            sys.exit(f'packet {number} is not found in 10 seconds')


def followed(follow):
    sent = send()
    if not json.loads(follow.stdout.readline()):
        sys.exit('no packet')
    return time.monotonic() - sent


if '--follow' in query:
    follow = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
    send()
    json.loads(follow.stdout.readline())
    spans = [followed(follow) for _ in range(int(rounds))]
    follow.terminate()
else:
    first = int(subprocess.run(query, check=True, capture_output=True, text=True).stdout)
    spans = [polled(first + n + 1) for n in range(int(rounds))]
most = sorted(spans)[(len(spans) * 99 + 99) // 100 - 1]
print(f'{statistics.median(spans) * 1000:.1f} {max(spans) * 1000:.1f} {most * 1000:.1f}')
