# SPDX-License-Identifier: Apache-2.0
"""From nothing to a run: init, an edited spec, plan; and what `doctor` finds."""

import stat
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.places import StorePlace
from tests.support.processes import free_port
from tests.support.workspace import CLASSES, Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Weights and photographs, and no installation yet."""
    return Workspace(folder=tmp_path / "work").lay_out(3)


def _checks(workspace: Workspace, code: int) -> dict[str, Any]:
    answer = workspace.call("doctor", "--json")
    assert answer.code == code, answer.out
    assert answer.err == ""
    assert answer.document["ok"] is (code == 0)
    return {each["part"]: each for each in answer.document["checks"]}


def test_an_edited_example_spec_can_be_planned_and_run(workspace: Workspace) -> None:
    """What `init` writes is refused for want of weights, and runs once edited."""
    answer = workspace.call("init")
    assert answer.code == 0, answer.err
    assert "affidavit plan audit.yaml" in answer.out
    key = workspace.home / "ledger.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert (workspace.home / "ledger.key.pub").read_text().strip() in answer.out

    spec = workspace.folder / "audit.yaml"
    refused = workspace.call("plan", spec)
    assert refused.code == 2
    assert "there is no file 'weights.safetensors'" in refused.err

    text = spec.read_text()
    for old, new in (
        ("torchvision:resnet50", "torchvision:squeezenet1_1"),
        ("weights.safetensors", "tiny.pt"),
        ("classes: imagenet", f"classes: {CLASSES}"),
        ("arguments: {}", f"arguments: {{num_classes: {len(CLASSES)}}}"),
        ("resize: 256", "resize: 64"),
        ("crop: 224", "crop: 64"),
        ("[deletion, insertion, confidence_retained]", "[]"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    spec.write_text(text)
    planned = workspace.call("plan", spec)
    assert planned.code == 0, planned.err
    assert "3 in 1 shards" in planned.out
    assert workspace.rows("runs") == []
    document = workspace.run(spec)
    assert document["items"]["done"] == 3
    created = [row["body"] for row in workspace.rows("ledger_entries")]
    assert sum(b"key:created" in body for body in created) == 1


def test_a_run_that_makes_the_key_tells_the_ledger(workspace: Workspace) -> None:
    """The ledger says which key signs it, also where no `init` came first."""
    workspace.run(workspace.write_spec())
    vkey = (workspace.home / "ledger.key.pub").read_text().strip()
    bodies = [row["body"] for row in workspace.rows("ledger_entries")]
    assert any(b"key:created" in body and vkey.encode() in body for body in bodies)


def test_doctor_is_content_with_nothing_and_makes_no_database(
    workspace: Workspace,
) -> None:
    """Before the first run every part is sound, and the hints say what makes it."""
    checks = _checks(workspace, 0)
    assert checks.keys() == {
        "settings",
        "database",
        "object store",
        "signing key",
        "broker",
        "workers",
        "device",
        "clock",
    }
    assert "affidavit init" in checks["database"]["mend"]
    assert "affidavit init" in checks["signing key"]["mend"]
    assert not workspace.database.exists()


def test_doctor_is_content_after_a_run(workspace: Workspace) -> None:
    """A working installation has a database, a store and a key that fit."""
    workspace.run(workspace.write_spec())
    checks = _checks(workspace, 0)
    assert "sqlite at migration" in checks["database"]["says"]
    assert "affidavit.local/ledger+" in checks["signing key"]["says"]
    plain = workspace.call("doctor")
    assert plain.code == 0
    assert plain.out.count("\nok   ") + plain.out.startswith("ok   ") == 8


def test_doctor_says_of_each_broken_part_how_to_mend_it(workspace: Workspace) -> None:
    """Every part that is broken is named, with what to do about it."""
    assert workspace.call("init", "example.yaml").code == 0
    (workspace.home / "ledger.key").chmod(0o644)
    (workspace.folder / "file").write_text("no folder")
    port = free_port()
    broken = Workspace(
        folder=workspace.folder,
        variables={
            "AFFIDAVIT_DATABASE_URL": f"postgresql://x:hunter2@127.0.0.1:{port}/x",
            "AFFIDAVIT_OBJECT_STORE_URL": str(workspace.folder / "file"),
            "AFFIDAVIT_BROKER_URL": f"redis://:hunter2@127.0.0.1:{port}/0",
            "AFFIDAVIT_DEVICE": "cuda:77",
            "AFFIDAVIT_DATABSE_URL": "sqlite:///x.db",
        },
    )
    checks = _checks(broken, 4)
    assert {part: each["ok"] for part, each in checks.items()} == dict.fromkeys(
        checks, False
    )
    for each in checks.values():
        assert each["mend"], each
        assert "hunter2" not in each["says"]
    assert "AFFIDAVIT_DATABASE_URL?" in checks["settings"]["says"]
    assert "chmod 600" in checks["signing key"]["mend"]


def test_doctor_looks_at_servers(
    workspace: Workspace, postgres_url: str, broker_url: str, s3_place: StorePlace
) -> None:
    """On servers it misses tables and workers, and is content with the rest."""
    served = Workspace(
        folder=workspace.folder,
        variables={
            "AFFIDAVIT_DATABASE_URL": postgres_url,
            "AFFIDAVIT_BROKER_URL": broker_url,
            **s3_place.environment(),
        },
    )
    checks = _checks(served, 4)
    assert checks["database"]["mend"] == "run: affidavit db upgrade"
    assert checks["object store"]["ok"]
    upgraded = served.call("db", "upgrade")
    assert upgraded.code == 0
    assert "was: empty" in upgraded.out
    assert "already" in served.call("db", "upgrade").out
    checks = _checks(served, 4)
    assert checks["database"]["ok"]
    assert not checks["workers"]["ok"]
    assert "affidavit worker --queue control" in checks["workers"]["mend"]


def test_doctor_warns_of_a_broker_that_forgets_in_a_restart(
    workspace: Workspace, broker_url: str
) -> None:
    """What costs a delay is a warning with its consequence, and a fault on demand."""
    served = Workspace(
        folder=workspace.folder, variables={"AFFIDAVIT_BROKER_URL": broker_url}
    )
    with redis.Redis.from_url(broker_url) as client:
        client.config_set("appendonly", "no")
        try:
            broker = _checks(served, 4)["broker"]
            plain = served.call("doctor")
            strict = served.call("doctor", "--production", "--json")
        finally:
            client.config_set("appendonly", "yes")
    assert (broker["ok"], broker["warning"]) == (True, True)
    assert "no run is lost" in broker["says"]
    assert broker["mend"] == "set it in redis.conf: appendonly yes"
    assert "\nwarn broker " in plain.out
    (found,) = [c for c in strict.document["checks"] if c["part"] == "broker"]
    assert not found["ok"]
