# SPDX-License-Identifier: Apache-2.0
"""What explaining texts costs, beside the forward pass alone.

    python -m benchmarks.kinds_text

A network of DistilBERT's shape (6 layers of 768, seeded weights: time does not depend
on them) on a batch of 16 texts of 32 tokens: each method's time over that of the plain
network on the same batch, the median of interleaved repeats. Texts of mixed lengths,
where the plain network pads all to the longest, are printed beside without a target.
"""

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import nn

from explain.frozen import frozen
from explain.methods import create_method
from explain.text.content import NO_WORD, TextTokens, Window
from explain.text.network import TextNetwork, TokenRules

ITEMS, REPEATS = 16, 3
#: Most forward passes that a method may cost.
TARGETS = {"gradient_x_input": 3.2, "text_generic_attention": 2.5, "text_rollout": 1.6}
RULES = TokenRules(limit=512, padding=0, baseline=0)


def network() -> nn.Module:
    """Return a classifier of DistilBERT's shape."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    torch.manual_seed(0)
    return DistilBertForSequenceClassification(DistilBertConfig(num_labels=2)).eval()


def text(tokens: int, seed: int) -> TextTokens:
    """Return a text of so many tokens, special ones included, a word a token."""
    words = np.arange(tokens - 2)
    drawn = np.random.default_rng(seed).integers(1000, 20000, tokens - 2)
    window = Window(
        np.concatenate([[101], drawn, [102]]),
        np.concatenate([[NO_WORD], words, [NO_WORD]]),
    )
    return TextTokens((window,), np.zeros(tokens - 2, np.int64))


def timed(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median seconds of each work, all taken in turn."""
    for work in works.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(REPEATS):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(found) for name, found in seconds.items()}


def ratios(module: nn.Module, lengths: list[int]) -> dict[str, float]:
    """Return each method's time over that of the plain forward pass."""
    texts = [text(length, seed) for seed, length in enumerate(lengths)]
    longest = max(lengths)
    tokens = torch.zeros((len(texts), longest), dtype=torch.int64)
    seen = torch.zeros_like(tokens)
    for row, one in enumerate(texts):
        own = torch.from_numpy(one.windows[0].tokens)
        tokens[row, : len(own)] = own
        seen[row, : len(own)] = 1
    gated = TextNetwork(module, texts, RULES)
    gates = gated.open_gates()

    def plain() -> object:
        with torch.no_grad():
            return module(input_ids=tokens, attention_mask=seen)

    def behind_gates() -> object:
        with torch.no_grad():
            return gated(gates)

    works: dict[str, Callable[[], object]] = {
        "forward": plain,
        "forward behind gates": behind_gates,
    }
    for name in TARGETS:
        method = create_method(name, gated)
        works[name] = lambda method=method: method.explain(gates, None)
    with frozen(module), frozen(gated):
        seconds = timed(works)
    forward = seconds.pop("forward")
    return {name: found / forward for name, found in seconds.items()}


def main() -> int:
    """Print each ratio with its verdict; 1 where a target is missed."""
    module = network()
    missed = 0
    draw = np.random.default_rng(5)
    for said, lengths in (
        ("16 texts of 32 tokens", [32] * ITEMS),
        ("16 texts of 8 to 48 tokens", draw.integers(8, 49, ITEMS).tolist()),
    ):
        print(said)
        for name, ratio in ratios(module, lengths).items():
            target = TARGETS.get(name) if len(set(lengths)) == 1 else None
            verdict = ""
            if target is not None:
                missed += ratio > target
                verdict = f"  {'ok' if ratio <= target else 'MISSED'} (<= {target})"
            print(f"  {name:24} {ratio:5.2f} forward passes{verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
