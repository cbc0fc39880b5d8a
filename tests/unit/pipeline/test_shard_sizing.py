# SPDX-License-Identifier: Apache-2.0
"""Shards last about a minute, in whole batches, and within the cap."""

import pytest

from pipeline.shard_sizing import MOST_ITEMS, TARGET_SHARD_S, shard_size


@pytest.mark.parametrize(
    ("cap", "batch_size", "item_seconds", "expected"),
    [
        (None, 16, 0.1, 592),
        (None, 16, 1e-9, MOST_ITEMS),
        (None, 16, 0.0, MOST_ITEMS),
        (256, 16, 0.1, 256),
        (250, 16, 0.1, 240),
        (4, 16, 0.1, 16),
        (None, 16, 1000.0, 16),
    ],
)
def test_a_shard_is_whole_batches_of_a_minute(
    cap: int | None, batch_size: int, item_seconds: float, expected: int
) -> None:
    """The time decides, rounded down to batches, and the cap bounds it."""
    found = shard_size(cap, batch_size=batch_size, item_seconds=item_seconds)
    assert found == expected
    assert found % batch_size == 0


def test_the_target_lies_within_what_is_promised() -> None:
    """A shard is meant to take between half a minute and two minutes."""
    assert 30 <= TARGET_SHARD_S <= 120
