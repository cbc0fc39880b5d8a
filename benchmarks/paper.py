# SPDX-License-Identifier: Apache-2.0
"""The tables of the paper, on real frames with expert masks.

Frames: the middle squares of the data folder's DAVIS frames whose object lies in them;
without that folder the demo's photographs with the outlines drawn for them. Network:
the pretrained EfficientNet-Lite0, Grad-CAM for the predicted class unless a row says
otherwise. Intervals are 95 %: those of means draw whole sequences, because frames of
one are alike; those of times lie between order statistics of interleaved rounds.

Parts: thresholds; truth (masks, and the precision-recall curve); ablation;
transformers; methods. Recurrent networks and texts are not measured here. What all of
it means beside the paper's figures is docs/paper-vs-measured.md.

Every row is kept in the JSON file as soon as it is measured, and a run with the same
file and settings takes up where an earlier one stopped.

Usage: python benchmarks/paper.py [--data FOLDER] [--quick] [--json FILE]
       [--parts PART ...] [--minutes M] [--curve FILE.svg] [--threads N]
"""

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from paper_tables import methods, steps, thresholds, transformers, truth
from paper_tables.curve_picture import picture
from paper_tables.results import OutOfTimeError, Results
from paper_tables.setting import Setting, setting

from explain.frozen import frozen

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))


PARTS = ("thresholds", "truth", "ablation", "transformers", "methods")
#: Frames whose methods are compared, one a sequence: a method asks a hundred passes.
COMPARED = 10


def main() -> int:
    """Print the tables; return 0 however they come out, 3 when time ran out."""
    options = _options()
    torch.set_num_threads(options.threads)
    given = setting(options.data)
    if options.quick:
        given = given.spread(4)
    results = Results(
        path=options.json,
        about={
            "torch": torch.__version__,
            "machine": platform.machine(),
            "threads": options.threads,
            "frames": len(given.inputs),
            "sequences": len(set(given.sequences)),
            "compared": min(COMPARED, len(given.inputs)),
            "quick": options.quick,
        },
        until=None
        if options.minutes is None
        else time.monotonic() + 60 * options.minutes,
    )
    results.load()
    print(", ".join(f"{name} {value}" for name, value in results.about.items()))
    stopped = False
    try:
        _measure(given, results, options)
    except OutOfTimeError:
        stopped = True
    _print(results)
    points = results.tables.get(truth.CURVE, {}).get(truth.CURVE)
    if options.curve and points:
        options.curve.write_text(picture(points["points"]))
    if stopped:
        print(f"Time ran out; go on with: --json {options.json}", file=sys.stderr)
    return 3 if stopped else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    default = ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="few frames and rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep results here")
    parser.add_argument("--curve", type=Path, metavar="FILE", help="draw the curve")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--minutes", type=float, help="begin no row after so many (needs --json)"
    )
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    options = parser.parse_args()
    if options.minutes is not None and options.json is None:
        parser.error("--minutes needs --json FILE, or what was measured is lost.")
    return options


def _measure(given: Setting, results: Results, options: argparse.Namespace) -> None:
    rounds = 2 if options.quick else 9
    with frozen(given.model):
        if "thresholds" in options.parts:
            print("Thresholds")
            thresholds.measure(given, results, rounds)
        if "truth" in options.parts:
            print("Ground truth")
            truth.measure(given, results)
    if "ablation" in options.parts:
        print("Ablation")
        steps.measure(results, 2 if options.quick else 6, 4 if options.quick else 16)
    if "transformers" in options.parts:
        print("Transformers")
        transformers.measure(results, rounds)
    if "methods" in options.parts:
        print("Methods")
        compared = given.spread(COMPARED)
        with frozen(compared.model):
            methods.measure(compared, results, 1 if options.quick else 6)


def _print(results: Results) -> None:
    """Print what there is as tables of Markdown."""
    rows = results.tables
    found: dict[str, list[list[list[str]]]] = {
        "Thresholds": thresholds.tables(rows.get(thresholds.TABLE, {})),
        "Ground truth": truth.tables(
            rows.get(truth.TABLE, {}), rows.get(truth.CURVE, {})
        ),
        "Ablation": steps.tables(rows.get(steps.TABLE, {})),
        "Vision transformers": transformers.tables(rows.get(transformers.TABLE, {})),
        "Methods": methods.tables(
            rows.get(methods.TABLE, {}), rows.get(methods.COSTS, {})
        ),
    }
    for title, tables in found.items():
        for table in tables:
            if len(table) > 1:
                print(f"\n{title}\n")
                _print_table(table)
    print("\nRecurrent networks and texts: not measured here.")


def _print_table(table: Sequence[Sequence[Any]]) -> None:
    print("| " + " | ".join(table[0]) + " |")
    print("|" + " --- |" * len(table[0]))
    for row in table[1:]:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    raise SystemExit(main())
