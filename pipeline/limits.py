# SPDX-License-Identifier: Apache-2.0
"""How large an input may be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest file and the largest picture that an audit takes in.

    Attributes:
        max_bytes: Largest file, in bytes as stored.
        max_pixels: Largest width x height, judged from the header alone.
    """

    max_bytes: int = 268_435_456
    max_pixels: int = 100_000_000
