# SPDX-License-Identifier: Apache-2.0
"""A reader of tiles, written from C2SP tlog-tiles and RFC 6962, nothing of ours."""

import base64
import hashlib
from collections.abc import Callable

Fetch = Callable[[str], bytes]


class TileReader:
    """Reads a log from its static files alone."""

    def __init__(self, fetch: Fetch) -> None:
        """The checkpoint has been read; its signature is for others to check."""
        self._fetch = fetch
        self.note = fetch("checkpoint").decode()
        self.origin, size, root = self.note.split("\n")[:3]
        self.size = int(size)
        self.root = base64.b64decode(root)

    def entries(self) -> list[bytes]:
        """Every entry, from the bundles."""
        bodies: list[bytes] = []
        for name in self._names("entries", self.size):
            data = self._fetch(f"tile/{name}")
            while data:
                length = data[0] * 256 + data[1]
                bodies.append(data[2 : 2 + length])
                data = data[2 + length :]
        return bodies

    def hashes(self, level: int) -> list[bytes]:
        """Every hash of a level, from its tiles."""
        count = self.size // 256**level
        data = b"".join(
            self._fetch(f"tile/{name}") for name in self._names(str(level), count)
        )
        return [data[at : at + 32] for at in range(0, len(data), 32)]

    @staticmethod
    def _names(level: str, count: int) -> list[str]:
        names = []
        for start in range(0, count, 256):
            number = start // 256
            place = f"{number % 1000:03d}"
            while number >= 1000:
                number //= 1000
                place = f"x{number % 1000:03d}/{place}"
            width = min(256, count - start)
            names.append(f"{level}/{place}" + (f".p/{width}" if width < 256 else ""))
        return names


def _mth(leaves: list[bytes]) -> bytes:
    """MTH over leaf hashes, as RFC 6962 section 2.1 writes it."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + _mth(leaves[:k]) + _mth(leaves[k:])).digest()


def holds(reader: TileReader) -> bool:
    """Whether entries, tiles of all levels and root agree with each other."""
    bodies = reader.entries()
    leaves = [hashlib.sha256(b"\x00" + body).digest() for body in bodies]
    level = 0
    hashes = leaves
    while hashes:
        if reader.hashes(level) != hashes:
            return False
        whole = len(hashes) // 256
        hashes = [_mth(hashes[n * 256 : n * 256 + 256]) for n in range(whole)]
        level += 1
    return len(bodies) == reader.size and _mth(leaves) == reader.root
