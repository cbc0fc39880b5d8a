# SPDX-License-Identifier: Apache-2.0
"""A second verifier of a ledger, written from the standards and from nothing of ours.

RFC 6962 section 2.1 defines the tree by recursion, so it is computed by recursion here;
RFC 8785 decides the bytes of an entry; C2SP signed-note and tlog-checkpoint the head.
It says only whether a log holds, and is slow on purpose.
"""

import base64
import hashlib
import json
from collections.abc import Sequence

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FIELDS = {"schema", "at", "actor", "action", "object", "digest", "details"}


def holds(
    entries: Sequence[tuple[int, bytes, bytes]], notes: Sequence[str], vkey: str
) -> bool:
    """Whether the entries are a whole ledger that the notes vouch for to its end."""
    try:
        return _holds(entries, notes, vkey)
    except (ValueError, KeyError, TypeError, InvalidSignature, UnicodeError):
        return False


def _holds(
    entries: Sequence[tuple[int, bytes, bytes]], notes: Sequence[str], vkey: str
) -> bool:
    if [index for index, _body, _leaf in entries] != list(range(len(entries))):
        return False
    bodies = [body for _index, body, _leaf in entries]
    for _index, body, leaf in entries:
        if hashlib.sha256(b"\x00" + body).digest() != leaf or not _is_entry(body):
            return False
    largest = 0
    origins = set()
    for note in notes:
        origin, size, root = _opened(note, vkey)
        origins.add(origin)
        if size > len(bodies) or _tree_hash(bodies[:size]) != root:
            return False
        largest = max(largest, size)
    return largest == len(bodies) and len(origins) <= 1


def _tree_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH(D[n]) as RFC 6962 section 2.1 writes it."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    left, right = _tree_hash(leaves[:k]), _tree_hash(leaves[k:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def _is_entry(body: bytes) -> bool:
    value = json.loads(body)
    return (
        isinstance(value, dict)
        and value.keys() == FIELDS
        and value["schema"] == "affidavit.entry/1"
        and rfc8785.dumps(value) == body
    )


def _opened(note: str, vkey: str) -> tuple[str, int, bytes]:
    """Return origin, size and root of a note that the key has signed."""
    name, key_hash, encoded = vkey.split("+", 2)
    blob = base64.b64decode(encoded, validate=True)
    if blob[0] != 1 or len(blob) != 33:
        raise ValueError
    text, separator, lines = note.rpartition("\n\n")
    if not separator or not lines.endswith("\n"):
        raise ValueError
    text += "\n"
    signed = False
    for line in lines[:-1].split("\n"):
        dash, signer, signature = line.split(" ")
        raw = base64.b64decode(signature, validate=True)
        if dash != "\u2014":
            raise ValueError
        if signer == name and raw[:4].hex() == key_hash:
            Ed25519PublicKey.from_public_bytes(blob[1:]).verify(raw[4:], text.encode())
            signed = True
    origin, size, root = text.split("\n")[:3]
    if not signed or not size.isdecimal() or str(int(size)) != size:
        raise ValueError
    return origin, int(size), base64.b64decode(root, validate=True)
