# SPDX-License-Identifier: Apache-2.0
"""How often a 95 % interval holds the true mean, on normal and on skewed data.

python benchmarks/intervals.py
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from explain.statistics import (
    Moments,
    bootstrap_mean_interval,
    moment_interval,
)

SEED = 20_261_125
SIMULATIONS = 2000
REPLICATES = 999
CASES = {
    "normal": (lambda random, n: random.normal(size=n), 0.0),
    "exponential": (lambda random, n: random.exponential(size=n), 1.0),
    "log-normal": (lambda random, n: random.lognormal(size=n), float(np.exp(0.5))),
    "rare (5 % ones)": (lambda random, n: (random.random(n) < 0.05) * 1.0, 0.05),
}


def percentile(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the percentile interval, which this package does not use."""
    random = np.random.Generator(np.random.Philox(seed))
    picks = random.integers(len(values), size=(REPLICATES, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Print one row a distribution and size."""
    print(f"seed {SEED}, {SIMULATIONS} simulations, {REPLICATES} replicates")
    print("| data | n | percentile | bootstrap | moments |")
    print("| --- | --- | --- | --- | --- |")
    for name, (draw, mean) in CASES.items():
        for n in (20, 100, 400):
            hits = np.zeros(3)
            for place in range(SIMULATIONS):
                random = np.random.Generator(np.random.Philox(key=[SEED, place]))
                values = draw(random, n)
                ours = bootstrap_mean_interval(
                    values, replicates=REPLICATES, seed=place
                )
                fast = moment_interval(Moments.of(values))
                assert ours is not None
                assert fast is not None
                pairs = (
                    percentile(values, place),
                    (ours.low, ours.high),
                    (fast.low, fast.high),
                )
                hits += [low <= mean <= high for low, high in pairs]
            shares = " | ".join(f"{100 * hit / SIMULATIONS:.1f} %" for hit in hits)
            print(f"| {name} | {n} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
