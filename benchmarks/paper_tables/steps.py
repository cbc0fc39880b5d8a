# SPDX-License-Identifier: Apache-2.0
"""The paper's ablation, which `benchmarks/ablation.py` measures, on its pictures."""

from dataclasses import asdict

from ablation import PAPER, lite0, measured

from paper_tables.results import Results, Row

TABLE = "ablation"


def measure(results: Results, rounds: int, batch: int) -> None:
    """Measure the six configurations at once, for each adds to the one before."""
    results.row(
        TABLE,
        "efficientnet-lite0",
        lambda: {
            "rows": [
                asdict(row)
                for row in measured("efficientnet-lite0", lite0(), batch, rounds)
            ]
        },
    )


def tables(rows: dict[str, Row]) -> list[list[list[str]]]:
    """Return the configurations as a table of text, the header first."""
    table = [
        [
            "configuration",
            "explanation / forward",
            "baseline / this",
            "MiB an image",
            "largest difference of a map",
            "paper: ms, MB, quality",
        ]
    ]
    table += [
        [
            row["name"],
            f"{row['over_forward']:.2f}",
            f"{row['speedup']:.2f}",
            f"{row['memory_mib']:.1f}",
            f"{row['map_difference']:.4f}",
            ", ".join(f"{value:g}" for value in PAPER[row["name"]]),
        ]
        for found in rows.values()
        for row in found["rows"]
    ]
    return [table]
