#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# Compares `past of` and `future of` with a closure computed from the event log, by brute force.
"""usage: past_oracle.py TIDEMARK LOG DIR ROUNDS SEED; says each disagreement."""
import json
import random
import subprocess
import sys

TYPES = ('connect', 'accept', 'send', 'recv', 'close')


def log_edges(events):
    """From the message's node and stamp to its receiver's."""
    edges = []
    for event in (e for e in events if 'cause' in e):
        cause = event.get('cause_last', event['cause'])
        of = [e for e in events if e['hlc'] == cause and e['node'] != event['node'] and
              {e['src'], e['dst']} == {event['src'], event['dst']}]
        if len(of) != 1:
            sys.exit(f'{len(of)} events are the cause of {event}')
        edges.append((of[0]['node'], cause, event['node'], event['hlc']))
    return edges


def syn_edges(packets):
    """A SYN that comes is no event: what its node stamps from then on is after it."""
    ends = [p for p in packets if p.get('flags') in ('S', 'SA')]
    return [(out['node'], out['hlc'], come['node'], f'{int(come["hlc"], 16) + 1:016x}')
            for out in ends if out['dir'] == 'out' for come in ends if come['dir'] == 'in' and
            all(out[key] == come[key] for key in ('src', 'dst', 'flags'))]


def past(edges, event):
    cuts, moved = {event['node']: event['hlc']}, True
    while moved:
        moved = False
        for sender, sent, receiver, received in edges:
            if received <= cuts.get(receiver, '') and sent > cuts.get(sender, ''):
                cuts[sender], moved = sent, True
    return lambda p: p['hlc'] <= cuts.get(p['node'], '')


def future(edges, event):
    cuts, moved = {event['node']: event['hlc']}, True
    while moved:
        moved = False
        for sender, sent, receiver, received in edges:
            if sent >= cuts.get(sender, '~') and received < cuts.get(receiver, '~'):
                cuts[receiver], moved = received, True
    return lambda p: p['hlc'] >= cuts.get(p['node'], '~')


def main():
    tidemark, log, directory, rounds, seed = sys.argv[1:]
    chance, wrong, asked = random.Random(int(seed)), 0, 0

    def ask(expression):
        lines = subprocess.run([tidemark, 'query', '-d', directory, '--json', expression],
                               check=True, capture_output=True, text=True).stdout.splitlines()
        return sorted(line for line in lines if 'gap' not in json.loads(line))

    with open(log, encoding='utf-8') as file:
        events = [e for e in map(json.loads, file) if e['type'] in TYPES]
    packets = {line: json.loads(line) for line in ask('')}
    edges = log_edges(events) + syn_edges(packets.values())
    for _ in range(int(rounds)):
        a, b = chance.choice(events), chance.choice(events)
        x, y = (f'{e["hlc"]}@{e["node"]}' for e in (a, b))
        pa, pb, fa, fb = past(edges, a), past(edges, b), future(edges, a), future(edges, b)
        for text, holds in (
                (f'past of {x}', pa), (f'future of {x}', fa),
                (f'future of {x} and past of {y}', lambda p: fa(p) and pb(p)),
                (f'past of {x} and not past of {y}', lambda p: pa(p) and not pb(p)),
                (f'past of {x} or future of {y} or udp',
                 lambda p: pa(p) or fb(p) or p['proto'] == 'udp'),
                (f'not (past of {x} or future of {y}) and tcp',
                 lambda p: not (pa(p) or fb(p)) and p['proto'] == 'tcp')):
            got, want = ask(text), sorted(line for line, p in packets.items() if holds(p))
            asked += 1
            if got != want:
                wrong += 1
                print(f'{text}: {len(got)} packets, want {len(want)}',
                      *(set(got) ^ set(want)), sep='\n  ')
    print(f'{len(events)} events, {len(packets)} packets, {asked} queries, {wrong} wrong')
    sys.exit(wrong > 0)


main()
