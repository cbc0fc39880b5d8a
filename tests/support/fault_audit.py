# SPDX-License-Identifier: Apache-2.0
"""The audit that is run under faults: small, with one bad item, and its digest."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
import yaml
from PIL import Image

from pipeline.embedded import create_embedded_run, run_embedded
from pipeline.planning import prepare
from pipeline.services import Services
from pipeline.settings import Settings
from storage.items import iterate_items
from storage.runs import get_run
from storage.states import RunState

#: Shards of a run; `make soak` asks for more.
SHARDS = int(os.environ.get("AFFIDAVIT_FAULT_SHARDS", "60"))
#: How often each fault is done, each time on a run of its own.
ROUNDS = int(os.environ.get("AFFIDAVIT_FAULT_ROUNDS", "1"))
ITEMS_A_SHARD = 2


def write_dataset(folder: Path) -> Path:
    """Return the spec of an audit of a small network over small pictures.

    One item is no picture, so that failed items are among those that are counted.
    """
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    generator = np.random.default_rng(11)
    for number in range(SHARDS * ITEMS_A_SHARD):
        path = pictures / f"{number:05d}.png"
        if number == 5:
            path.write_bytes(b"no picture")
            continue
        coarse = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 96)).save(path)
    torch.manual_seed(3)
    model = torchvision.models.get_model("squeezenet1_1", weights=None, num_classes=7)
    torch.save(model.state_dict(), folder / "weights.pt")
    spec = {
        "audit": "faults",
        "model": {
            "source": "torchvision:squeezenet1_1",
            "weights": "weights.pt",
            "arguments": {"num_classes": 7},
            "preprocess": {"resize": 96, "crop": 96},
        },
        "data": {"source": "pictures/"},
        "metrics": ["completeness"],
        "privacy": {"gallery": "none"},
        "run": {
            "batch_size": ITEMS_A_SHARD,
            "shard_size": ITEMS_A_SHARD,
            "threads": 1,
            # Random kills hit the same small shard more often than in real life.
            "max_attempts": 20,
        },
    }
    path = folder / "audit.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """What a run comes to when nothing fails.

    Attributes:
        digest: Of its result.
        records: The digest of each item's record, by its place in the manifest.
    """

    digest: str
    records: dict[int, bytes | None]


def undisturbed(folder: Path, spec: Path) -> Undisturbed:
    """Return the result of the audit, run here in one process."""
    settings = Settings(
        home=folder / "alone", device="cpu", allowed_roots=str(folder), broker_url=None
    )
    services = Services(settings=settings, actor="test/undisturbed")
    audit = prepare(services, spec)
    run_id = create_embedded_run(services, audit)
    assert run_embedded(services, run_id, audit.executor) is RunState.DONE
    digest = get_run(services.engine, run_id).result_digest
    rows = iterate_items(services.engine, run_id)
    records = {row.item_index: row.record_digest for row in rows}
    services.close()
    assert digest is not None
    return Undisturbed(digest=digest, records=records)
