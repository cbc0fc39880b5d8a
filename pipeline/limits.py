# SPDX-License-Identifier: Apache-2.0
"""How large an input may be, and how much memory inputs may take together."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest file and the largest picture that an audit takes in.

    Attributes:
        max_bytes: Largest file, in bytes as stored.
        max_pixels: Largest width x height, judged from the header alone.
        decoding_bytes: What all threads of a process together may take to decode.
    """

    max_bytes: int = 268_435_456
    max_pixels: int = 50_000_000
    decoding_bytes: int = 1_073_741_824
