#!/usr/bin/env python3
"""Verifies an export of history against a seal that was kept elsewhere:
verify.py events.tsv seals.tsv SEAL. See doc/history.md, "Verify an export"."""
import re
import sys
from hashlib import sha256

CHARACTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
def unescape(text):
    return None if text == rb"\N" else re.sub(rb"\\(.)", lambda m: CHARACTERS.get(m[1], m[1]), text, flags=re.S)
def rows(path):  # the lines of a file one by one, as lists of bytes or None
    with open(path, "rb") as file:
        for line in file:
            yield [unescape(text) for text in line.rstrip(b"\n").split(b"\t")]
def written(event):
    return b"".join(b"-" if text is None else b"%d:%b," % (len(text), text) for text in event)
events, findings, seal, last, gap, kept_at, verified = rows(sys.argv[1]), [], bytes(32), 0, False, None, 0
event = next(events, None)
for number, at, xid, last_event, count, events_hash, chained, pruned, pruned_hash in rows(sys.argv[2]):
    def finding(text): findings.append(f"seal {number.decode()}: {text}")
    hashed, left = bytes.fromhex((pruned_hash or b"00" * 32).decode()), int(count) - int(pruned)
    events_hash, before, found, last = bytes.fromhex(events_hash.decode()), seal, 0, last + 1
    while event and (int(event[0]), int(event[1])) <= (int(xid), int(last_event)):
        hashed, found, event = sha256(hashed + written(event)).digest(), found + 1, next(events, None)
    seal = bytes.fromhex(chained.decode())
    numbers = b"".join(int(n).to_bytes(8, "big", signed=True) for n in (xid, last_event, count, at))
    if int(number) != last or sha256(before + events_hash + numbers).digest() != seal: finding("the chain is broken")
    if found != left: finding(f"{found} events instead of {left}")
    elif left and hashed != events_hash: finding("events were changed")
    if left < 0 or int(pruned) < 0 or int(pruned) and gap: finding("events are missing that were not pruned")
    gap, kept_at, verified = gap or left > 0, number if seal.hex() == sys.argv[3].lower() else kept_at, verified + found
unsealed = (event is not None) + sum(1 for _ in events)
if not kept_at: findings.append("the given seal is not in the chain: nothing is proven")
print(*findings, f"{verified} events under {last} seals, {unsealed} not sealed; the given seal covers up to seal {kept_at.decode() if kept_at else 'none'}", sep="\n")
sys.exit(bool(findings))
