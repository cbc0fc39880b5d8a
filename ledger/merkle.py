# SPDX-License-Identifier: Apache-2.0
"""The Merkle tree of RFC 6962: hashes, roots, and proofs with their checks.

`CompactRange` is enough to append and to sign: it holds one hash for each bit set
in the size. `HashTree` keeps every complete subtree, 64 bytes a leaf, and is what
proofs are cut from. The `verify_` functions need neither.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence

from ledger.errors import FormatError, ProofError

HASH_SIZE = 32

#: RFC 6962 section 2.1: the hash of an empty list is the hash of an empty string.
EMPTY_ROOT = hashlib.sha256(b"").digest()

# RFC 6962 section 2.1: the prefixes keep a leaf from passing for a node.
_LEAF_PREFIX = b"\x00"
_NODE_PREFIX = b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf: SHA-256(0x00 || entry) (RFC 6962 section 2.1)."""
    return hashlib.sha256(_LEAF_PREFIX + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node: SHA-256(0x01 || left || right) (section 2.1)."""
    return hashlib.sha256(_NODE_PREFIX + left + right).digest()


class CompactRange:
    """The roots of the perfect subtrees that a tree of some size splits into.

    They stand from left (largest) to right, one for each bit set in the size, so
    appending a leaf and reading the root both cost O(log size).
    """

    __slots__ = ("_frontier", "_size")

    def __init__(self, size: int = 0, frontier: Sequence[bytes] = ()) -> None:
        if size < 0 or len(frontier) != size.bit_count():
            raise FormatError(
                f"compact range of size {size} has {len(frontier)} hashes, expected "
                f"{max(size, 0).bit_count()} (one for each bit set in the size)"
            )
        if any(len(part) != HASH_SIZE for part in frontier):
            raise FormatError(f"compact range holds a hash that is not {HASH_SIZE} B")
        self._size = size
        self._frontier = list(frontier)

    @classmethod
    def from_hex(cls, size: int, frontier: Sequence[str]) -> "CompactRange":
        """Return the range that `frontier_hex` described.

        Raises:
            FormatError: a hash is not hexadecimal, or the count does not fit.
        """
        try:
            return cls(size, [bytes.fromhex(part) for part in frontier])
        except (ValueError, TypeError) as exc:
            raise FormatError("compact range holds text that is not hex") from exc

    @property
    def size(self) -> int:
        """The number of leaves appended so far."""
        return self._size

    @property
    def frontier(self) -> tuple[bytes, ...]:
        """The subtree roots from left to right."""
        return tuple(self._frontier)

    @property
    def frontier_hex(self) -> list[str]:
        """The subtree roots as hexadecimal text, ready for a JSON column."""
        return [part.hex() for part in self._frontier]

    def append(self, leaf: bytes) -> list[bytes]:
        """The range now ends with this leaf hash.

        Returns:
            The subtrees that it completes: of two leaves, of four, and so on.
        """
        if len(leaf) != HASH_SIZE:
            raise FormatError(f"leaf hash has {len(leaf)} bytes, expected {HASH_SIZE}")
        merged = leaf
        completed = []
        size = self._size
        while size & 1:  # two subtrees of one height become one of the next
            merged = node_hash(self._frontier.pop(), merged)
            completed.append(merged)
            size >>= 1
        self._frontier.append(merged)
        self._size += 1
        return completed

    def root(self) -> bytes:
        """Return the Merkle tree hash of all leaves (RFC 6962 section 2.1)."""
        if not self._frontier:
            return EMPTY_ROOT
        root = self._frontier[-1]
        for left in reversed(self._frontier[:-1]):
            root = node_hash(left, root)
        return root


#: Gives the root over the leaves from the first index up to the second.
Subtree = Callable[[int, int], bytes]


def inclusion_path(subtree: Subtree, index: int, size: int) -> list[bytes]:
    """Return PATH(index, D[size]) of a tree whose subtrees can be asked for.

    Raises:
        ProofError: the index is not below the size.

    Source: RFC 6962, section 2.1.1.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size} leaves")
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + split_at(high - low)
        if index < middle:
            path.append(subtree(middle, high))
            high = middle
        else:
            path.append(subtree(low, middle))
            low = middle
    path.reverse()  # the clause lists them from the leaf up
    return path


def consistency_path(subtree: Subtree, first: int, second: int) -> list[bytes]:
    """Return PROOF(first, D[second]) of a tree whose subtrees can be asked for.

    Raises:
        ProofError: the sizes are not 0 < first <= second.

    Source: RFC 6962, section 2.1.2.
    """
    if not 0 < first <= second:
        raise ProofError(
            f"no consistency proof from {first} to {second} leaves: expected "
            "0 < first <= second"
        )
    path: list[bytes] = []
    low, high = 0, second
    while high != first:
        middle = low + split_at(high - low)
        if first <= middle:
            path.append(subtree(middle, high))
            high = middle
        else:
            path.append(subtree(low, middle))
            low = middle
    if low:  # the flag b of SUBPROOF: the verifier cannot know this subtree
        path.append(subtree(low, high))
    path.reverse()
    return path


class HashTree:
    """Every complete subtree's hash, level by level, so that proofs are look-ups.

    Level 0 holds the leaves; node j of level h covers leaves j*2^h up to
    (j+1)*2^h. The levels are flat byte arrays: a million leaves take 64 MB.
    """

    __slots__ = ("_levels",)

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        self._levels: list[bytearray] = [bytearray()]
        for leaf in leaf_hashes:
            self.append(leaf)

    def __len__(self) -> int:
        return len(self._levels[0]) // HASH_SIZE

    def append(self, leaf: bytes) -> None:
        """The tree now ends with this leaf hash."""
        if len(leaf) != HASH_SIZE:
            raise FormatError(f"leaf hash has {len(leaf)} bytes, expected {HASH_SIZE}")
        self._levels[0] += leaf
        height = 0
        while (len(self._levels[height]) // HASH_SIZE) % 2 == 0:
            pair = bytes(self._levels[height][-2 * HASH_SIZE :])
            height += 1
            if height == len(self._levels):
                self._levels.append(bytearray())
            self._levels[height] += node_hash(pair[:HASH_SIZE], pair[HASH_SIZE:])

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first `size` leaves, or over all."""
        size = len(self) if size is None else size
        self._check_size(size)
        return self._range(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """Return PATH(index, D[size]): the hashes beside the way to the root.

        Raises:
            ProofError: the index is not below the size, or the tree is smaller.

        Source: RFC 6962, section 2.1.1.
        """
        self._check_size(size)
        return inclusion_path(self._range, index, size)

    def consistency_proof(self, first: int, second: int) -> list[bytes]:
        """Return PROOF(first, D[second]): that the first tree begins the second.

        Raises:
            ProofError: the sizes are not 0 < first <= second <= the tree's size.

        Source: RFC 6962, section 2.1.2.
        """
        self._check_size(second)
        return consistency_path(self._range, first, second)

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= len(self):
            raise ProofError(f"the tree has {len(self)} leaves, asked for {size}")

    def _range(self, low: int, high: int) -> bytes:
        width = high - low
        if width & (width - 1) == 0:  # RFC 6962 splits keep such ranges aligned
            height = width.bit_length() - 1
            start = (low >> height) * HASH_SIZE
            return bytes(self._levels[height][start : start + HASH_SIZE])
        middle = low + split_at(width)
        return node_hash(self._range(low, middle), self._range(middle, high))


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return the root over the leaf hashes, in memory that grows with log n."""
    tree = CompactRange()
    for leaf in leaf_hashes:
        tree.append(leaf)
    return tree.root()


def inclusion_proof(leaf_hashes: Iterable[bytes], index: int, size: int) -> list[bytes]:
    """Return the RFC 6962 section 2.1.1 path of one leaf in the first `size`.

    For many proofs of one tree, build a `HashTree` once.

    Raises:
        ProofError: fewer than `size` hashes were given, or the index is outside.
    """
    return HashTree(itertools.islice(leaf_hashes, max(size, 0))).inclusion_proof(
        index, size
    )


def consistency_proof(
    leaf_hashes: Iterable[bytes], first: int, second: int
) -> list[bytes]:
    """Return the RFC 6962 section 2.1.2 proof between two sizes of one tree.

    Raises:
        ProofError: the sizes are not 0 < first <= second <= the hashes given.
    """
    tree = HashTree(itertools.islice(leaf_hashes, max(second, 0)))
    return tree.consistency_proof(first, second)


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Return only if the path leads from the leaf hash at `index` to the root.

    Raises:
        ProofError: the index is outside, the path has another length than the
            tree's shape asks for, or it leads to another root.

    Source: RFC 6962 section 2.1.1; the algorithm is RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size} leaves")
    result = leaf
    for step, is_left in zip(proof, _sides(index, size, len(proof)), strict=True):
        result = node_hash(step, result) if is_left else node_hash(result, step)
    _check_root(result, root, f"leaf {index} of {size}")


def verify_consistency(
    first: int,
    second: int,
    proof: Sequence[bytes],
    first_root: bytes,
    second_root: bytes,
) -> None:
    """Return only if the tree of `first` leaves is a prefix of the larger one.

    Raises:
        ProofError: the sizes or the proof's length are impossible, or the proof
            leads to another root at either end.

    Source: RFC 6962 section 2.1.2; the algorithm is RFC 9162 section 2.1.4.2.
    """
    if not 0 < first <= second:
        raise ProofError(
            f"sizes {first} and {second} do not compare: expected 0 < first <= second"
        )
    if first == second:
        if proof:
            raise ProofError("consistency proof between equal sizes must be empty")
        _check_root(first_root, second_root, f"tree of {first}")
        return
    # A perfect first tree is itself the node to start from, and is not repeated.
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path:
        raise ProofError(f"consistency proof from {first} to {second} is empty")
    height = _trailing_ones(first - 1)
    top = ((second - 1) >> height) + 1
    sides = _sides((first - 1) >> height, top, len(path) - 1)
    old = new = path[0]
    for step, is_left in zip(path[1:], sides, strict=True):
        if is_left:
            old, new = node_hash(step, old), node_hash(step, new)
        else:
            new = node_hash(new, step)
    _check_root(old, first_root, f"tree of {first}")
    _check_root(new, second_root, f"tree of {second}")


def _sides(position: int, size: int, steps: int) -> list[bool]:
    """Return for each step up from a node whether its sibling stands on the left.

    Raises:
        ProofError: the way to the root has not that many steps.
    """
    last = size - 1
    sides: list[bool] = []
    while last:
        is_left = bool(position & 1) or position == last
        if position == last and not position & 1:
            # A lone node at the right edge climbs without a sibling.
            climb = _trailing_zeros(position)
            position >>= climb
            last >>= climb
        sides.append(is_left)
        position >>= 1
        last >>= 1
    if len(sides) != steps:
        raise ProofError(f"proof has {steps} hashes, expected {len(sides)}")
    return sides


def _trailing_zeros(number: int) -> int:
    return (number & -number).bit_length() - 1


def _trailing_ones(number: int) -> int:
    return _trailing_zeros(number + 1)


def split_at(width: int) -> int:
    """Return the largest power of two below the width (RFC 6962 section 2.1)."""
    return 1 << ((width - 1).bit_length() - 1)


def _check_root(got: bytes, expected: bytes, where: str) -> None:
    if got != expected:
        raise ProofError(
            f"proof for {where} leads to root {got.hex()}, expected {expected.hex()}"
        )
