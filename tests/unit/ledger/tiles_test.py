# SPDX-License-Identifier: Apache-2.0
"""Names and contents of tiles are those of C2SP tlog-tiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import FormatError
from ledger.tiles import Tile, entry_bundle, read_bundle, read_tile, tiles_of


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 999), "tile/0/999"),
        (Tile(1, 1000), "tile/1/x001/000"),
        # The example of the specification.
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(2, 0, 1), "tile/2/000.p/1"),
        (Tile(0, 273, 112), "tile/0/273.p/112"),
    ],
)
def test_a_tile_has_the_name_that_the_specification_gives_it(
    tile: Tile, path: str
) -> None:
    """Indexes are groups of three digits, and a partial tile says how wide it is."""
    assert tile.path == path
    assert tile.entries_path == "tile/entries/" + path.split("/", 2)[2]


def test_a_tree_of_70000_entries_has_the_tiles_of_the_specification() -> None:
    """273 full and a partial one of 112, then one full and 17, then one of width 1."""
    tiles = list(tiles_of(70_000))
    lowest = [tile for tile in tiles if tile.level == 0]
    assert [tile.width for tile in lowest] == [256] * 273 + [112]
    assert [t.width for t in tiles if t.level == 1] == [256, 17]
    assert [t.width for t in tiles if t.level == 2] == [1]
    assert len(tiles) == 274 + 2 + 1


def test_a_tree_of_256_entries_has_a_full_and_a_partial_tile() -> None:
    """The specification's other example; an empty tile is no tile."""
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles_of(0)) == []
    assert list(tiles_of(1)) == [Tile(0, 0, 1)]


@given(st.integers(0, 70_000), st.integers(0, 70_000))
def test_what_is_new_is_what_the_smaller_tree_lacks(one: int, other: int) -> None:
    """A tree that grew is published by exactly the tiles that it did not have."""
    before, now = sorted((one, other))
    assert set(tiles_of(now, since=before)) == set(tiles_of(now)) - set(
        tiles_of(before)
    )


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_a_bundle_reads_back(bodies: list[bytes]) -> None:
    """Each entry comes back as it was, the empty one too."""
    assert read_bundle(entry_bundle(bodies)) == bodies


@given(st.binary(max_size=2_000))
def test_bytes_of_a_stranger_are_entries_or_a_format_error(data: bytes) -> None:
    """Nothing else comes out, and what is read is written the same way again."""
    try:
        bodies = read_bundle(data)
    except FormatError:
        return
    assert entry_bundle(bodies) == data


@pytest.mark.parametrize("length", [0, 31, 33, 8193, 8224])
def test_a_tile_of_another_length_is_refused(length: int) -> None:
    """A tile holds 1 to 256 hashes, all of them whole."""
    with pytest.raises(FormatError):
        read_tile(bytes(length))


@pytest.mark.parametrize(
    "numbers", [(-1, 0, 1), (64, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)]
)
def test_numbers_of_no_tile_are_refused(numbers: tuple[int, int, int]) -> None:
    """Level, index and width have bounds."""
    with pytest.raises(FormatError):
        Tile(*numbers)


def test_an_entry_that_is_too_long_is_refused() -> None:
    """Its length would not fit into two bytes."""
    assert read_bundle(entry_bundle([bytes(65_535)])) == [bytes(65_535)]
    with pytest.raises(FormatError):
        entry_bundle([bytes(65_536)])
