# SPDX-License-Identifier: Apache-2.0
"""Lay out the demo of sequences: exercises seen by a smartwatch, and a small LSTM.

    python examples/sequence/prepare.py demo-sequence/

Nothing is downloaded: the recordings lie in the wheel of seglearn (extra
`sequence-demo`). Ten persons did seven shoulder exercises with each arm (Burns et al.
2018, "Shoulder physiotherapy exercise recognition: machine learning the inertial
signals from a smartwatch"). The network is trained here, in seconds, on seven of them;
the audit is of the other three. Where the folder has its weights already they are
taken.
"""

import argparse
import csv
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from pipeline.models.recurrent import lstm

HERE = Path(__file__).parent
SEED = 7
#: Persons whose recordings the network never sees before the audit.
HELD_OUT = (8, 9, 10)
#: Readings of 50 a second are averaged by fives; an excerpt lasts 4 to 8 seconds.
AVERAGED, SHORTEST, LONGEST = 5, 40, 80
#: Excerpts of a recording to learn from, and passes over all of them.
EXCERPTS, EPOCHS = 5, 40


class MissingDataError(Exception):
    """The recordings are not there; the message says what to install."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Excerpt:
    """Some seconds of one recording.

    Attributes:
        name: Of the excerpt.
        person: Number of the person.
        arm: left or right.
        exercise: Which of the seven it is.
        readings: (T, 6) float64, accelerations in g and turning rates in rad/s.
    """

    name: str
    person: int
    arm: str
    exercise: str
    readings: npt.NDArray[np.float64]


def prepare(folder: Path) -> tuple[Path, int]:
    """Return the spec's path in the folder and how many sequences the audit has.

    Raises:
        MissingDataError: seglearn is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spec = folder / "audit.yaml"
    shutil.copyfile(HERE / "audit.yaml", spec)
    sections = yaml.safe_load(spec.read_text("utf-8"))
    recordings = installed()
    weights = folder / sections["model"]["weights"]
    if not weights.exists():
        learn = [
            excerpt
            for excerpt in excerpts(recordings, EXCERPTS)
            if excerpt.person not in HELD_OUT
        ]
        save_file(trained(learn, sections).state_dict(), weights)
    told = [one for one in excerpts(recordings, 1) if one.person in HELD_OUT]
    write_table(folder / sections["data"]["source"], told, sections)
    return spec, len(told)


def installed() -> dict[str, Any]:
    """Return the recordings of the package, without importing the package.

    Raises:
        MissingDataError: it is not installed.
    """
    found = find_spec("seglearn")
    places = found.submodule_search_locations if found is not None else None
    for place in places or ():
        file = Path(place) / "data" / "watch_dataset.npy"
        if file.is_file():
            # The package's own file, trusted as its code is.
            recordings: dict[str, Any] = np.load(file, allow_pickle=True).item()
            return recordings
    raise MissingDataError(
        "The recordings of seglearn are not installed; pip install"
        " 'affidavit[sequence-demo]' brings them."
    )


def excerpts(recordings: dict[str, Any], count: int) -> Iterator[Excerpt]:
    """Yield so many excerpts of each recording, of lengths and places by the seed."""
    random = np.random.default_rng([SEED, count])
    names = recordings["y_labels"]
    for number, readings in enumerate(recordings["X"]):
        whole = len(readings) // AVERAGED
        slow = readings[: whole * AVERAGED].reshape(whole, AVERAGED, -1).mean(axis=1)
        for part in range(count):
            length = int(random.integers(SHORTEST, LONGEST + 1))
            start = int(random.integers(0, whole - length + 1))
            yield Excerpt(
                name=f"r{number:03}-{part}",
                person=int(recordings["subject"][number]),
                arm="right" if recordings["side"][number] else "left",
                exercise=names[int(recordings["y"][number])].lower(),
                readings=slow[start : start + length],
            )


def trained(learn: list[Excerpt], sections: dict[str, Any]) -> nn.Module:
    """Return the network of the spec, trained on the excerpts."""
    options = sections["data"]["options"]
    classes = sections["model"]["classes"]
    values = torch.zeros(len(learn), LONGEST, len(options["mean"]))
    for row, one in zip(values, learn, strict=True):
        normal = (one.readings - options["mean"]) / options["std"]
        row[: len(normal)] = torch.from_numpy(normal)
    lengths = torch.tensor([len(one.readings) for one in learn])
    labels = torch.tensor([classes.index(one.exercise) for one in learn])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network: nn.Module = lstm.build(**sections["model"]["arguments"])
        optimiser = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(learn)).split(64):
                optimiser.zero_grad()
                logits = network(values[batch], lengths[batch])
                nn.functional.cross_entropy(logits, labels[batch]).backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
            schedule.step()
    return network.eval()


def write_table(file: Path, told: list[Excerpt], sections: dict[str, Any]) -> None:
    """The file is a table with a row a step."""
    features = sections["data"]["columns"]["features"]
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["excerpt", "person", "arm", "exercise", "second", *features])
        for one in told:
            for step, readings in enumerate(one.readings):
                writer.writerow(
                    [one.name, f"person {one.person}", one.arm, one.exercise]
                    + [f"{step / 10:.1f}"]
                    + [f"{value:.4f}" for value in readings]
                )


def main(arguments: list[str] | None = None) -> int:
    """Prepare the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Lay out the demo of sequences.")
    parser.add_argument("folder", type=Path, help="folder to write to")
    folder = parser.parse_args(arguments).folder
    try:
        spec, count = prepare(folder)
    except MissingDataError as exc:
        print(exc, file=sys.stderr)
        return 2
    print(f"{count} sequences are in {folder}; run: affidavit run {spec}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
