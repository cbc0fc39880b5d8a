# SPDX-License-Identifier: Apache-2.0
"""A folder with a tiny network and photographs, and the command line called in it."""

import contextlib
import io
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
import yaml
from PIL import Image

from tests.support.command_line import Answer, called, standing_in

#: Classes of the tiny network.
CLASSES = ["cat", "cup", "rocket", "person", "other"]
SIDE = 64


@cache
def tiny_weights() -> bytes:
    """The state dict of a seeded SqueezeNet with five outputs, as torch saves it."""
    from torchvision import models

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.squeezenet1_1(weights=None, num_classes=len(CLASSES))
    stream = io.BytesIO()
    torch.save(network.state_dict(), stream)
    return stream.getvalue()


@cache
def _photograph(name: str) -> Any:
    return getattr(skimage.data, name)()


def photograph(number: int, side: int = SIDE) -> Image.Image:
    """Return a crop of a real photograph, another for every number."""
    names = ("chelsea", "coffee", "rocket", "astronaut")
    picture = _photograph(names[number % len(names)])
    generator = np.random.default_rng(number)
    top = int(generator.integers(0, picture.shape[0] - side + 1))
    left = int(generator.integers(0, picture.shape[1] - side + 1))
    return Image.fromarray(picture[top : top + side, left : left + side])


@dataclass(kw_only=True)
class Workspace:
    """A folder to work in; commands see its variables and no other of ours."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Where the database, the objects and the key are unless set otherwise."""
        return self.folder / "home"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.home / "affidavit.db"

    @property
    def objects(self) -> Path:
        """The folder of objects."""
        return self.home / "objects"

    def lay_out(self, count: int = 10) -> "Workspace":
        """Return the workspace, which now holds weights and photographs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "tiny.pt").write_bytes(tiny_weights())
        photos = self.folder / "photos"
        photos.mkdir()
        for number in range(count):
            photograph(number).save(photos / f"{number:04d}.png")
        return self

    def write_spec(self, name: str = "audit.yaml", **sections: Any) -> Path:
        """Return the path of a spec of the tiny network, sections merged in."""
        spec: dict[str, Any] = {
            "audit": "tiny",
            "model": {
                "source": "torchvision:squeezenet1_1",
                "weights": "tiny.pt",
                "arguments": {"num_classes": len(CLASSES)},
                "classes": CLASSES,
                "preprocess": {"resize": SIDE, "crop": SIDE},
            },
            "data": {"source": "photos/"},
            "run": {"batch_size": 4, "shard_size": 4, "threads": 1, "device": "cpu"},
        }
        for key, value in sections.items():
            merged = isinstance(value, dict) and isinstance(spec.get(key), dict)
            spec[key] = spec[key] | value if merged else value
        path = self.folder / name
        path.write_text(yaml.safe_dump(spec, sort_keys=False))
        return path

    @contextlib.contextmanager
    def environment(self) -> Iterator[None]:
        """The working folder is this one and the environment has its variables."""
        with standing_in(self.folder, home=self.home, variables=self.variables):
            yield

    def call(self, *arguments: object) -> Answer:
        """Return what a command answers, called in this process."""
        with self.environment():
            return called(*arguments)

    def run(self, spec: Path) -> dict[str, Any]:
        """Return the document of a run that ends without a complaint."""
        answer = self.call("run", spec, "--json")
        assert answer.code == 0, answer.err
        document: dict[str, Any] = answer.document
        return document

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return every row of a table of the SQLite database."""
        if not self.database.exists():
            return []
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            connection.row_factory = sqlite3.Row
            # The names of tables come from tests alone.
            return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]  # noqa: S608


def write_csv(path: Path, rows: list[Mapping[str, str]]) -> Path:
    """Return the path of a manifest with these rows."""
    header = list(rows[0])
    lines = [",".join(header)]
    lines += [",".join(row[name] for name in header) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path
