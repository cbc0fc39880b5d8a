# SPDX-License-Identifier: Apache-2.0
"""Noise belongs to (seed, item, draw) and to nothing else."""

import hashlib

import numpy as np
import pytest

from explain.errors import InvalidParameterError
from explain.randomness import uniform_noise


def slow_philox(seed: int, item: int, draw: int, words: int) -> list[int]:
    """Return the first words of Philox 4x64-10, straight from the paper."""
    mask = 2**64 - 1
    result: list[int] = []
    block = 0
    while len(result) < words:
        block += 1  # numpy steps the counter before its first block
        counter, key = [block, 0, 0, draw], [seed, item]
        for _ in range(10):
            first = counter[0] * 0xD2E7470EE14C6C93
            second = counter[2] * 0xCA5A826395121157
            counter = [
                (second >> 64) ^ counter[1] ^ key[0],
                second & mask,
                (first >> 64) ^ counter[3] ^ key[1],
                first & mask,
            ]
            key = [
                (key[0] + 0x9E3779B97F4A7C15) & mask,
                (key[1] + 0xBB67AE8584CAA73B) & mask,
            ]
        result += counter
    return result[:words]


def test_equals_the_paper() -> None:
    """The values are the upper 24 bits of each 32-bit half of Philox's words."""
    noise = uniform_noise(12, 345, 6, (21,))
    words = slow_philox(12, 345, 6, 11)
    halves = [half for word in words for half in (word & 0xFFFFFFFF, word >> 32)]
    expected = [(half >> 8) * 2.0**-23 - 1.0 for half in halves[:21]]
    assert noise.tolist() == expected


def test_the_bytes_are_pinned() -> None:
    """A numpy that gave other bytes would change recorded results, so it must show."""
    noise = uniform_noise(0, 0, 0, (3, 8, 8))
    digest = hashlib.sha256(noise.astype("<f4").tobytes()).hexdigest()
    assert digest == "076ea388e21b09c02d862c81d54931462919566109d2bb7163fae3d79af04b06"


def test_the_range_is_half_open() -> None:
    """Values are float32 in [-1, 1), evenly spread."""
    noise = uniform_noise(1, 2, 3, (3, 100, 100))
    assert noise.dtype == np.float32
    assert noise.shape == (3, 100, 100)
    assert float(noise.min()) >= -1.0
    assert float(noise.max()) < 1.0
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.std()) - 3**-0.5) < 0.01


@pytest.mark.parametrize("other", [(2, 1, 1), (1, 2, 1), (1, 1, 2)])
def test_each_argument_gives_another_stream(other: tuple[int, int, int]) -> None:
    """Seeds, items and draws are independent, also when small and close."""
    first, second = uniform_noise(1, 1, 1, (1000,)), uniform_noise(*other, (1000,))
    assert abs(float(np.corrcoef(first, second)[0, 1])) < 0.15
    assert not np.array_equal(first, second)


def test_a_longer_shape_begins_like_a_shorter_one() -> None:
    """Values do not depend on how many are asked for."""
    assert np.array_equal(
        uniform_noise(5, 6, 7, (9,))[:4], uniform_noise(5, 6, 7, (4,))
    )


def test_large_indices_are_fine() -> None:
    """The whole 64-bit range is usable."""
    top = 2**64 - 1
    assert np.isfinite(uniform_noise(top, top, top, (4,))).all()


@pytest.mark.parametrize("arguments", [(-1, 0, 0), (0, 2**64, 0), (0, 0, -1)])
def test_an_index_out_of_range_is_refused(arguments: tuple[int, int, int]) -> None:
    """A negative or oversized argument is named instead of wrapped around."""
    with pytest.raises(InvalidParameterError, match="lie in 0"):
        uniform_noise(*arguments, (1,))
