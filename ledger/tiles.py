# SPDX-License-Identifier: Apache-2.0
"""The ledger as static files: C2SP tlog-tiles, names and contents.

A tile is up to 256 hashes of one height; a bundle is the entries beneath a tile of the
lowest height. Both never change once they are whole, so that any web server, mirror or
archive can hold them, and a reader takes what he wants to prove from them.

Source: C2SP tlog-tiles (https://c2sp.org/tlog-tiles), "Merkle Tree" and "Log entries".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.errors import FormatError
from ledger.merkle import HASH_SIZE

#: Hashes of a whole tile.
WIDTH: Final = 256
HEIGHT: Final = 8
#: The file that names the newest tree; the only one that changes.
CHECKPOINT: Final = "checkpoint"
MAX_ENTRY: Final = 0xFFFF


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """A tile of a tree: its level, its place in the level, and how much of it is there.

    Raises:
        FormatError: no tile has these numbers.
    """

    level: int
    index: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        if not (0 <= self.level <= 63 and self.index >= 0 and 1 <= self.width <= WIDTH):
            raise FormatError(
                f"no tile has level {self.level}, index {self.index} and width "
                f"{self.width}"
            )

    @property
    def is_whole(self) -> bool:
        """Whether nothing can be added to it."""
        return self.width == WIDTH

    @property
    def first(self) -> int:
        """The index, within its level, of its first hash."""
        return self.index * WIDTH

    @property
    def path(self) -> str:
        """The name of its file, `tile/<level>/<index>[.p/<width>]`."""
        return f"tile/{self.level}/{self._place()}"

    @property
    def entries_path(self) -> str:
        """The name of the bundle of the entries beneath it; level 0 has one."""
        return f"tile/entries/{self._place()}"

    def _place(self) -> str:
        digits = f"{self.index:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        place = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
        return place if self.is_whole else f"{place}.p/{self.width}"


def tiles_of(size: int, *, since: int = 0) -> Iterator[Tile]:
    """Yield the tiles of a tree that a tree of `since` entries does not have.

    Level by level, from the leaves up. Source: tlog-tiles, "Partial Tiles".
    """
    level = 0
    while size >> (level * HEIGHT):
        before, now = since >> (level * HEIGHT), size >> (level * HEIGHT)
        for index in range(before // WIDTH, now // WIDTH):
            yield Tile(level, index)
        if now % WIDTH and now != before:
            yield Tile(level, now // WIDTH, now % WIDTH)
        level += 1


def entry_bundle(bodies: Sequence[bytes]) -> bytes:
    """Return the bundle of these entries: each behind its length, big-endian uint16.

    Raises:
        FormatError: an entry is too long for its length.
    """
    parts = []
    for body in bodies:
        if len(body) > MAX_ENTRY:
            raise FormatError(f"an entry has {len(body)} bytes, at most {MAX_ENTRY}")
        parts += [len(body).to_bytes(2, "big"), body]
    return b"".join(parts)


def read_bundle(data: bytes) -> list[bytes]:
    """Return the entries of a bundle.

    Raises:
        FormatError: it ends in the middle of an entry, or holds more than a tile.
    """
    bodies = []
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + 2 + length]
        if at + 2 > len(data) or len(body) != length:
            raise FormatError("the bundle ends in the middle of an entry")
        bodies.append(body)
        at += 2 + length
        if len(bodies) > WIDTH:
            raise FormatError(f"the bundle holds more than {WIDTH} entries")
    return bodies


def read_tile(data: bytes) -> list[bytes]:
    """Return the hashes of a tile.

    Raises:
        FormatError: its length is not that of 1 to 256 hashes.
    """
    count, rest = divmod(len(data), HASH_SIZE)
    if rest or not 1 <= count <= WIDTH:
        raise FormatError(f"a tile has {len(data)} bytes, expected 32 to 8,192 in 32s")
    return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]
