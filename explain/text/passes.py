# SPDX-License-Identifier: Apache-2.0
"""Forward passes of one shape, so that a text's numbers do not depend on others'.

Kernels give other last bits at other shapes. So a window is padded to the next of a
few lengths, and goes through the network with a number of rows that depends on that
length alone; rows that are not needed repeat one that is. A text then has the same
numbers in whatever batch it comes, with whatever texts beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explain.text.content import NO_WORD, TextTokens, Window

#: Tokens of a pass. Few on a CPU, so that texts of several lengths waste little, where
#: more would gain little; many on a GPU, which is idle otherwise.
CPU_TOKENS, GPU_TOKENS = 128, 2048
#: The shortest padded length; from there each is half as long again or twice.
SHORTEST = 16


def padded_length(tokens: int, limit: int) -> int:
    """Return the length that a window is padded to: at most the network's limit."""
    length = SHORTEST
    while length < tokens:
        # 16, 24, 32, 48, 64, ...: a third of it is padding at the most.
        power = length & (length - 1) == 0
        length = length * 3 // 2 if power else length * 4 // 3
    return max(tokens, min(length, limit))


def rows_of(length: int, device: torch.device) -> int:
    """Return how many windows of a padded length go through the network at once."""
    tokens = CPU_TOKENS if device.type == "cpu" else GPU_TOKENS
    return max(1, tokens // length)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The windows of one padded length.

    Attributes:
        tokens: (G, L) int64.
        words: (G, L) int64, ``NO_WORD`` where no word is.
        seen: (G, L) bool, False at padding.
        items: The text of each window.
        places: The number of each window among the windows of all texts in order.
    """

    tokens: Tensor
    words: Tensor
    seen: Tensor
    items: tuple[int, ...]
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """The rows of one forward pass, of which the first ``used`` count.

    Attributes:
        tokens, words, seen: (R, L), as in a group.
        gates: (R,) int64, the row of gates that each is seen through.
        used: How many rows count.
    """

    tokens: Tensor
    words: Tensor
    seen: Tensor
    gates: Tensor
    used: int


def grouped(
    items: Sequence[TextTokens], limit: int, padding: int, device: torch.device
) -> tuple[Group, ...]:
    """Return the windows of all texts by padded length, the shortest first.

    Args:
        items: The texts.
        limit: Most tokens that the network takes.
        padding: The token that stands behind a window's own.
        device: Where the tensors go.
    """
    found: dict[int, list[tuple[Window, int, int]]] = {}
    place = 0
    for item, text in enumerate(items):
        for window in text.windows:
            length = padded_length(len(window.tokens), limit)
            found.setdefault(length, []).append((window, item, place))
            place += 1
    return tuple(
        _group(length, found[length], padding, device) for length in sorted(found)
    )


def _group(
    length: int,
    members: list[tuple[Window, int, int]],
    padding: int,
    device: torch.device,
) -> Group:
    tokens = np.full((len(members), length), padding, np.int64)
    words = np.full((len(members), length), NO_WORD, np.int64)
    seen = np.zeros((len(members), length), np.bool_)
    for row, (window, _item, _place) in enumerate(members):
        tokens[row, : len(window.tokens)] = window.tokens
        words[row, : len(window.tokens)] = window.words
        seen[row, : len(window.tokens)] = True
    return Group(
        torch.from_numpy(tokens).to(device),
        torch.from_numpy(words).to(device),
        torch.from_numpy(seen).to(device),
        tuple(item for _window, item, _place in members),
        tuple(place for _window, _item, place in members),
    )


def passes(groups: Sequence[Group], copies: int) -> Iterator[Pass]:
    """Yield the passes that show every window through each copy's gates.

    Rows that count come in the order of the groups, of their windows, of the copies.
    """
    for group in groups:
        device = group.tokens.device
        rows = rows_of(group.tokens.shape[1], device)
        windows = torch.arange(len(group.items), device=device)
        windows = windows.repeat_interleave(copies)
        items = torch.tensor(group.items, device=device)
        gates = items[:, None] * copies + torch.arange(copies, device=device)
        for start in range(0, len(windows), rows):
            chosen = torch.arange(start, start + rows, device=device)
            chosen = chosen.clamp_(max=len(windows) - 1)
            which = windows[chosen]
            yield Pass(
                group.tokens[which],
                group.words[which],
                group.seen[which],
                gates.flatten()[chosen],
                min(rows, len(windows) - start),
            )


def in_order(groups: Sequence[Group], copies: int) -> Tensor:
    """Return where each text's rows are among those of ``passes``, one after another.

    Rows are put by text, then by its windows, then by copy.

    Shape: (windows of all texts * copies,) int64.
    """
    places = torch.tensor([place for group in groups for place in group.places])
    first = torch.argsort(places)[:, None] * copies
    return (first + torch.arange(copies)).flatten().to(groups[0].tokens.device)
