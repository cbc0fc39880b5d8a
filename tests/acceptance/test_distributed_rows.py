# SPDX-License-Identifier: Apache-2.0
"""Rows of a table go the way of photographs: workers agree with one process."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deployment import Deployment, deployed
from tests.support.places import StorePlace

PREPARE = Path(__file__).parents[2] / "examples" / "table" / "prepare.py"

pytestmark = pytest.mark.timeout(600)

ITEMS = 48


def _lay_out(folder: Path) -> Path:
    """Return the spec of the demo of tables, its table cut short and one row broken."""
    subprocess.run([sys.executable, str(PREPARE), str(folder)], check=True)
    table = folder / "decisions.csv"
    with table.open(newline="") as stream:
        rows = list(csv.reader(stream))[: ITEMS + 1]
    rows[3][rows[0].index("income_thousands")] = "plenty"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    spec = folder / "audit.yaml"
    text = spec.read_text().replace("shard_size: 256", "shard_size: 8")
    spec.write_text(
        text.replace("batch_size: 64", "batch_size: 4").replace(
            "items_failed.count <= 0", "items_failed.count <= 1"
        )
    )
    return spec


def test_workers_agree_with_one_process_over_rows(
    tmp_path: Path, broker_url: str, postgres_url: str, s3_place: StorePlace
) -> None:
    """The result digest of two workers over a table's rows is the embedded run's."""
    spec = _lay_out(tmp_path)
    alone = Deployment(folder=tmp_path, variables={"AFFIDAVIT_DEVICE": "cpu"})
    embedded = alone.call("run", str(spec), "--json", "--home", str(tmp_path / "alone"))
    assert embedded.code == 0, embedded.err
    assert embedded.document["items"] == {
        "total": ITEMS,
        "done": ITEMS - 1,
        "failed": 1,
    }
    with deployed(
        tmp_path, database_url=postgres_url, place=s3_place, broker_url=broker_url
    ) as deployment:
        deployment.start_worker("control-1", "control")
        deployment.start_worker("cpu-1", "cpu")
        deployment.start_worker("cpu-2", "cpu")
        deployment.start("beat", "beat")
        deployment.wait_for_workers("control-1", "cpu-1", "cpu-2")
        submitted = deployment.call("submit", str(spec), "--json")
        assert submitted.code == 0, submitted.err
        document = deployment.wait_for_state(submitted.document["run"], "done")
        assert document["result_digest"] == embedded.document["result_digest"]
        verified = deployment.call("verify", submitted.document["run"], "--json")
        assert verified.code == 0, verified.err
