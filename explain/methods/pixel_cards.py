# SPDX-License-Identifier: Apache-2.0
"""Cards of the methods that differentiate down to the input."""

from explain.methods.card import MethodCard

#: In the order in which they are listed.
PIXEL_CARDS: tuple[MethodCard, ...] = ()
