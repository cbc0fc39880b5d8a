# SPDX-License-Identifier: Apache-2.0
"""Lay out the graph demo: real molecules, a network trained on others, the spec.

    python examples/graph/prepare.py demo/

Nothing is downloaded: the molecules are the first five thousand of the NCI open
database, as they lie in the wheel of rdkit (extra `graph-demo`). Whether one has a
structural alert for mutagenicity is told by two patterns of Kazius et al. 2005,
"Derivation and Validation of Toxicophores for Mutagenicity Prediction": an aromatic
nitro group or a primary aromatic amine. The network sees atoms and which are joined,
and learns from the answer alone; the pattern's bonds are what its explanations should
find.
"""

import argparse
import json
import shutil
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

HERE = Path(__file__).parent
#: Aromatic nitro group; primary aromatic amine.
ALERTS = ("c[N+](=O)[O-]", "c[NX3;H2]")
#: Elements that have a number of their own; all others share one.
ELEMENTS = ("C", "N", "O", "S", "Cl", "Br", "P", "I", "F", "Hg")
CLASSES = ("no alert", "alert")
LEAST_ATOMS, MOST_ATOMS = 6, 40
#: Molecules of each class to train on, and to audit.
TRAINED, AUDITED = 480, 48
SEED = 0
WIDTH, LAYERS, EPOCHS = 32, 3, 40


class MissingMoleculesError(Exception):
    """Something is not installed; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Molecule:
    """One molecule: numbers of each atom, bonds, and which bonds are of an alert."""

    smiles: str
    atoms: list[list[float]]
    symbols: list[str]
    bonds: list[tuple[int, int]]
    marked: list[int]

    @property
    def label(self) -> int:
        """Whether it has an alert."""
        return int(any(self.marked))

    def line(self) -> dict[str, Any]:
        """Return the molecule as one line of the demo's source."""
        return {
            "smiles": self.smiles,
            "label": CLASSES[self.label],
            "x": self.atoms,
            "edge_index": [[a for a, _ in self.bonds], [b for _, b in self.bonds]],
            "undirected": True,
            "edge_truth": self.marked,
            "node_labels": self.symbols,
        }


def prepare(folder: Path) -> Path:
    """Return the spec's path in the folder, which now holds all that the demo needs.

    Weights that are already there are kept.

    Raises:
        MissingMoleculesError: a package is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    train, audit = chosen(molecules())
    with (folder / "molecules.jsonl").open("w", encoding="utf-8") as stream:
        for molecule in audit:
            stream.write(json.dumps(molecule.line()) + "\n")
    weights = folder / "gin.safetensors"
    if not weights.exists():
        network = trained(train)
        right = accuracy(network, audit)
        print(
            f"trained on {len(train)} molecules; {right:.0%} of the audited are right"
        )
        save_file(network.state_dict(), weights)
    spec = folder / "audit.yaml"
    shutil.copyfile(HERE / "audit.yaml", spec)
    return spec


def molecules() -> list[Molecule]:
    """Return the molecules of rdkit's NCI file that are small and in one piece."""
    try:
        from rdkit import Chem, RDConfig, RDLogger  # noqa: PLC0415 - asked for here
    except ModuleNotFoundError as exc:
        raise MissingMoleculesError(
            "The molecules lie in rdkit, which is not installed; "
            "pip install 'affidavit[graph-demo]' brings it."
        ) from exc
    RDLogger.DisableLog("rdApp.*")  # some of the file's molecules are no chemistry
    patterns = [Chem.MolFromSmarts(alert) for alert in ALERTS]
    file = Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi"
    found = []
    for line in file.read_text("utf-8").splitlines():
        smiles = line.split()[0]
        parsed = Chem.MolFromSmiles(smiles)
        if parsed is None or "." in smiles:
            continue
        if LEAST_ATOMS <= parsed.GetNumAtoms() <= MOST_ATOMS:
            found.append(as_molecule(smiles, parsed, patterns))
    return found


def as_molecule(smiles: str, parsed: Any, patterns: list[Any]) -> Molecule:
    """Return a parsed molecule as numbers; hydrogen is left out."""
    inside = [
        set(match)
        for pattern in patterns
        for match in parsed.GetSubstructMatches(pattern)
    ]
    bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in parsed.GetBonds()]
    return Molecule(
        smiles=smiles,
        atoms=[numbers_of(atom) for atom in parsed.GetAtoms()],
        symbols=[atom.GetSymbol() for atom in parsed.GetAtoms()],
        bonds=bonds,
        marked=[int(any({a, b} <= match for match in inside)) for a, b in bonds],
    )


def numbers_of(atom: Any) -> list[float]:
    """Return an atom's element as one of eleven, and whether it is aromatic."""
    symbol = atom.GetSymbol()
    numbers = [float(symbol == element) for element in ELEMENTS]
    return [*numbers, float(symbol not in ELEMENTS), float(atom.GetIsAromatic())]


def chosen(found: list[Molecule]) -> tuple[list[Molecule], list[Molecule]]:
    """Return molecules to train on and to audit, both classes alike, seeded."""
    order = np.random.default_rng(SEED).permutation(len(found))
    train: list[Molecule] = []
    audited: list[list[Molecule]] = []
    for label in (0, 1):
        of_class = [found[place] for place in order if found[place].label == label]
        audited.append(of_class[:AUDITED])
        train += of_class[AUDITED : AUDITED + TRAINED]
    return train, [one for pair in zip(*audited, strict=True) for one in pair]


def trained(train: list[Molecule]) -> nn.Module:
    """Return the network, trained on one thread so that it is the same everywhere.

    Raises:
        MissingMoleculesError: torch-geometric is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            from pipeline.models.graph_classifier import (  # noqa: PLC0415
                GraphClassifier,
            )
    except ModuleNotFoundError as exc:
        raise MissingMoleculesError(
            "The network needs torch-geometric; install it with:"
            " pip install 'affidavit[graph]'."
        ) from exc
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    network = GraphClassifier(
        "gin",
        features=len(ELEMENTS) + 2,
        hidden=WIDTH,
        layers=LAYERS,
        classes=len(CLASSES),
    )
    draws = np.random.default_rng(SEED)
    fitter = torch.optim.Adam(network.parameters(), lr=3e-3, weight_decay=1e-4)
    for _epoch in range(EPOCHS):
        order = draws.permutation(len(train))
        for start in range(0, len(train), 64):
            batch = [train[place] for place in order[start : start + 64]]
            inputs, labels = joined(batch)
            fitter.zero_grad()
            loss = nn.functional.cross_entropy(network(*inputs), labels)
            loss.backward()
            fitter.step()
    return network.eval()


def joined(batch: list[Molecule]) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Return molecules side by side as a network takes them, and their labels."""
    edges, index, before = [], [], 0
    for place, molecule in enumerate(batch):
        pairs = torch.tensor(molecule.bonds, dtype=torch.int64).reshape(-1, 2).T
        edges.append(torch.cat([pairs, pairs.flip(0)], dim=1) + before)
        index += [place] * len(molecule.atoms)
        before += len(molecule.atoms)
    atoms = torch.tensor([atom for molecule in batch for atom in molecule.atoms])
    inputs = (atoms, torch.cat(edges, dim=1), torch.tensor(index))
    return inputs, torch.tensor([molecule.label for molecule in batch])


def accuracy(network: nn.Module, audit: list[Molecule]) -> float:
    """Return the share of molecules whose class is right."""
    inputs, labels = joined(audit)
    with torch.no_grad():
        return float((network(*inputs).argmax(dim=1) == labels).float().mean())


def main(arguments: list[str] | None = None) -> int:
    """Prepare the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Lay out the demo's molecules.")
    parser.add_argument("folder", type=Path, help="folder to write to")
    folder = parser.parse_args(arguments).folder
    try:
        spec = prepare(folder)
    except MissingMoleculesError as exc:
        print(exc, file=sys.stderr)
        return 2
    print(f"{2 * AUDITED} molecules are in {folder}; run: affidavit run {spec}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
