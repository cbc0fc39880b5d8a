# SPDX-License-Identifier: Apache-2.0
"""RFC 6962: our tree against the Certificate Transparency vectors and a slow oracle."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import FormatError, ProofError
from ledger.merkle import (
    EMPTY_ROOT,
    CompactRange,
    HashTree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The leaves, roots and proofs of the Certificate Transparency reference tests.
CT_LEAVES = [
    leaf_hash(bytes.fromhex(text))
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
N_0 = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
N_1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
N_4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
N_0_1 = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
N_2_3 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
N_4_5 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
N_6_7 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
N_0_3 = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
N_4_7 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
CT_INCLUSION = [
    (0, 1, []),
    (0, 8, [N_1, N_2_3, N_4_7]),
    (5, 8, [N_4, N_6_7, N_0_3]),
    (2, 3, [N_0_1]),
    (1, 5, [N_0, N_2_3, N_4]),
]
CT_CONSISTENCY = [
    (1, 1, []),
    (1, 8, [N_1, N_2_3, N_4_7]),
    (6, 8, [N_4_5, N_6_7, N_0_3]),
    (2, 5, [N_2_3, N_4]),
]

SMALL = [leaf_hash(bytes([number])) for number in range(40)]


def slow_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, as the clause words it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = slow_split(len(leaves))
    return hashlib.sha256(
        b"\x01" + slow_root(leaves[:k]) + slow_root(leaves[k:])
    ).digest()


def slow_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962 section 2.1.1, as the clause words it."""
    if len(leaves) == 1:
        return []
    k = slow_split(len(leaves))
    if index < k:
        return [*slow_path(index, leaves[:k]), slow_root(leaves[k:])]
    return [*slow_path(index - k, leaves[k:]), slow_root(leaves[:k])]


def slow_proof(first: int, leaves: list[bytes], *, is_known: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962 section 2.1.2, as the clause words it."""
    if first == len(leaves):
        return [] if is_known else [slow_root(leaves)]
    k = slow_split(len(leaves))
    if first <= k:
        rest = slow_proof(first, leaves[:k], is_known=is_known)
        return [*rest, slow_root(leaves[k:])]
    rest = slow_proof(first - k, leaves[k:], is_known=False)
    return [*rest, slow_root(leaves[:k])]


def slow_split(n: int) -> int:
    """Return the largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def unhex(texts: list[str]) -> list[bytes]:
    """Return the hashes that the texts spell."""
    return [bytes.fromhex(text) for text in texts]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size: int) -> None:
    """Every head of the reference tree comes out of each way to compute a root."""
    expected = bytes.fromhex(CT_ROOTS[size])
    assert root_of(CT_LEAVES[:size]) == expected
    assert HashTree(CT_LEAVES).root(size) == expected


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    """RFC 6962 section 2.1: the root of no leaves is SHA-256 of the empty string."""
    assert CompactRange().root() == EMPTY_ROOT == HashTree().root()


@pytest.mark.parametrize(("index", "size", "proof"), CT_INCLUSION)
def test_inclusion_proofs_are_the_published_ones(
    index: int, size: int, proof: list[str]
) -> None:
    """The reference inclusion proofs are produced and verified."""
    got = inclusion_proof(CT_LEAVES, index, size)
    assert got == unhex(proof)
    root = bytes.fromhex(CT_ROOTS[size])
    verify_inclusion(CT_LEAVES[index], index, size, got, root)


@pytest.mark.parametrize(("first", "second", "proof"), CT_CONSISTENCY)
def test_consistency_proofs_are_the_published_ones(
    first: int, second: int, proof: list[str]
) -> None:
    """The reference consistency proofs are produced and verified."""
    got = consistency_proof(CT_LEAVES, first, second)
    assert got == unhex(proof)
    roots = [bytes.fromhex(text) for text in CT_ROOTS]
    verify_consistency(first, second, got, roots[first], roots[second])


def test_everything_equals_the_slow_oracle() -> None:
    """Roots and both proofs equal the clauses word for word, for all sizes to 40."""
    tree = HashTree(SMALL)
    running = CompactRange()
    for size in range(1, len(SMALL) + 1):
        running.append(SMALL[size - 1])
        root = slow_root(SMALL[:size])
        assert running.root() == tree.root(size) == root
        for other in range(size):
            path = tree.inclusion_proof(other, size)
            assert path == slow_path(other, SMALL[:size])
            verify_inclusion(SMALL[other], other, size, path, root)
            first = other + 1
            proof = tree.consistency_proof(first, size)
            assert proof == slow_proof(first, SMALL[:size], is_known=True)
            verify_consistency(first, size, proof, tree.root(first), root)


@given(st.integers(1, 40), st.data())
def test_a_changed_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    """Another leaf, place, root, hash or length never verifies."""
    index = data.draw(st.integers(0, size - 1))
    tree = HashTree(SMALL)
    path = tree.inclusion_proof(index, size)
    root = tree.root(size)
    wrong: list[tuple[bytes, int, list[bytes], bytes]] = [
        (leaf_hash(b"other"), index, path, root),
        (SMALL[index], index, path, leaf_hash(b"other")),
        (SMALL[index], index, [*path, root], root),
        (SMALL[index], size, path, root),
        (SMALL[index], -1, path, root),
    ]
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        wrong.append((SMALL[index], other, path, root))
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        wrong.append((SMALL[index], index, path[:-1], root))
        path = [*path[:place], leaf_hash(b"other"), *path[place + 1 :]]
        wrong.append((SMALL[index], index, path, root))
    for leaf, place, steps, head in wrong:
        with pytest.raises(ProofError):
            verify_inclusion(leaf, place, size, steps, head)


@given(st.integers(1, 40), st.data())
def test_a_changed_consistency_proof_is_refused(
    second: int, data: st.DataObject
) -> None:
    """Other roots, hashes, sizes or lengths never verify."""
    first = data.draw(st.integers(1, second))
    tree = HashTree(SMALL)
    proof = tree.consistency_proof(first, second)
    old, new = tree.root(first), tree.root(second)
    other = leaf_hash(b"other")
    wrong = [
        (first, proof, other, new),
        (first, proof, old, other),
        (first, [*proof, other], old, new),
        (0, proof, old, new),
        (second + 1, proof, old, new),
    ]
    if proof:
        wrong.append((first, proof[:-1], old, new))
        wrong.append((first, [], old, new))
        wrong.append((first, [*proof[:-1], other], old, new))
        wrong.append((first, [other, *proof[1:]], old, new))
    for size, steps, head, later in wrong:
        with pytest.raises(ProofError):
            verify_consistency(size, second, steps, head, later)


def test_a_leaf_never_passes_for_a_node() -> None:
    """The prefixes differ, so a leaf holding two hashes is not their parent."""
    left, right = SMALL[:2]
    assert leaf_hash(left + right) != node_hash(left, right)


@given(st.integers(0, 40))
def test_a_compact_range_survives_being_written_down(size: int) -> None:
    """A range restored from its hexadecimal frontier goes on where it was."""
    tree = CompactRange()
    for leaf in SMALL[:size]:
        tree.append(leaf)
    again = CompactRange.from_hex(tree.size, tree.frontier_hex)
    assert len(tree.frontier) == size.bit_count()
    again.append(SMALL[0])
    assert again.size == size + 1
    assert again.root() == slow_root([*SMALL[:size], SMALL[0]])


@pytest.mark.parametrize(
    ("size", "frontier"),
    [
        (1, []),
        (2, ["00" * 32, "00" * 32]),
        (-1, []),
        (1, ["zz"]),
        (1, ["00" * 31]),
        (1, [None]),
    ],
)
def test_an_impossible_frontier_is_refused(size: int, frontier: list[str]) -> None:
    """A frontier whose count, length or text is wrong is not taken for a tree."""
    with pytest.raises(FormatError):
        CompactRange.from_hex(size, frontier)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 41), (0, 0), (0, -1)])
def test_no_inclusion_proof_outside_the_tree(index: int, size: int) -> None:
    """Asking for a leaf or a size that the tree has not raises ProofError."""
    with pytest.raises(ProofError):
        inclusion_proof(SMALL, index, size)


@pytest.mark.parametrize(("first", "second"), [(0, 3), (4, 3), (1, 41), (-1, 3)])
def test_no_consistency_proof_outside_the_tree(first: int, second: int) -> None:
    """Asking for sizes that do not nest raises ProofError."""
    with pytest.raises(ProofError):
        consistency_proof(SMALL, first, second)


def test_only_whole_hashes_are_appended() -> None:
    """An entry passed where its hash belongs is refused."""
    with pytest.raises(FormatError):
        CompactRange().append(b"entry")
    with pytest.raises(FormatError):
        HashTree([b"entry"])
