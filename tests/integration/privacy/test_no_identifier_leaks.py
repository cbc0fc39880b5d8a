# SPDX-License-Identifier: Apache-2.0
"""Eighteen kinds of identifiers, sought in all that is printed, stored or sent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
import redis
import sqlalchemy as sa
import yaml

from storage.engine import create_engine
from storage.identities.tables import SCHEMA
from tests.support.deployment import Deployment, deployed
from tests.support.identifiers import (
    COLUMNS,
    IN_LABELS,
    IN_PATHS,
    SEEDS,
    kinds_in,
    lay_out_identifiers,
    photograph_bytes,
)
from tests.support.persons import call_with
from tests.support.places import StorePlace
from tests.support.workspace import Workspace

#: The one table that may name inputs, until they are erased.
MAY_NAME_INPUTS = "locations"

#: Every command that reads something, in an order that makes sense.
READING = (
    ("status", "latest"),
    ("status", "latest", "--json"),
    ("items", "latest"),
    ("items", "latest", "--failed", "--json"),
    ("show", "latest", "0", "--out", "out/0.png", "--json"),
    ("show", "latest", "5", "--json"),
    ("report", "latest", "--out", "out", "--bundle", "out/b.zip", "--export", "out/t"),
    ("verify", "latest", "--json"),
    ("verify", "out/b.zip", "--json"),
    ("register", "--json"),
    ("dpia", "--json"),
    ("incident", "affected", "latest", "--json"),
    ("subject", "erasures", "--json"),
    ("subject", "replay", "--json"),
    ("retention", "list", "--json"),
    ("doctor", "--json"),
    ("workers", "--json"),
)


def _tables(engine: sa.Engine) -> dict[str, bytes]:
    """Return every table of every schema as text, that of the keys included."""
    found = {}
    inspector = sa.inspect(engine)
    schemas = [None]
    if engine.dialect.name == "postgresql":
        schemas.append(SCHEMA)
    with engine.connect() as connection:
        for schema in schemas:
            for name in inspector.get_table_names(schema):
                table = sa.table(name, schema=schema)
                rows = connection.execute(sa.select(sa.text("*")).select_from(table))
                found[f"{schema or 'main'}.{name}"] = repr(
                    [tuple(_plain(value) for value in row) for row in rows]
                ).encode()
    return found


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


def _files(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, their names and cells included."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".parquet":
                # Compressed columns would hide text.
                content += repr(pq.read_table(path).to_pylist()).encode()
            name = str(path.relative_to(folder))
            found[name] = name.encode() + b"\n" + content
    return found


def _nothing_in(found: dict[str, bytes], part: bytes) -> None:
    hits = {name: kinds_in(content, part) for name, content in found.items()}
    assert {name: kinds for name, kinds in hits.items() if kinds} == {}


def _spec(folder: Path) -> Path:
    workspace = Workspace(folder=folder)
    return workspace.write_spec(
        data={"source": "items.csv", "columns": COLUMNS},
        metrics=["localisation", "deletion"],
        criteria=["score.mean >= 0 by group:zip"],
    )


def test_the_seeds_are_the_kinds_of_the_rule() -> None:
    """Seventeen are text, the eighteenth is the photograph; each is its own."""
    assert len(SEEDS) + 1 == 18
    assert len(set(SEEDS.values())) == len(SEEDS)


def test_an_embedded_audit_leaks_none(tmp_path: Path) -> None:
    """Everything printed, every table, object, key, report and bundle, twice erased."""
    workspace = Workspace(
        folder=tmp_path / "work", variables={"AFFIDAVIT_LOG_LEVEL": "debug"}
    ).lay_out(0)
    lay_out_identifiers(workspace.folder)
    part = photograph_bytes(workspace.folder)
    (workspace.folder / "out").mkdir()
    spec = _spec(workspace.folder)
    said = []
    token = ""
    for command in (("plan", spec), ("run", spec, "--json"), *READING):
        answer = workspace.call(*command)
        assert answer.code in {0, 1}, (command, answer.err)
        said.append(answer.out + answer.err)
    name = SEEDS["name"]
    answer = call_with(workspace, f"{name}\n", "subject", "find", "--json")
    token = answer.document["subject"]
    said += [answer.out + answer.err]
    for command in (
        ("subject", "report", token, "--json"),
        ("subject", "erase", token, "--identity-verified", "--json"),
        ("subject", "erase", "Wilhelmina", "--json"),
    ):
        answer = workspace.call(*command)
        said.append(answer.out + answer.err)
    unknown = call_with(workspace, "Nobody Known\n", "subject", "find")
    assert unknown.code == 2
    assert "Known" not in unknown.out + unknown.err
    _nothing_in({"transcript": "\n".join(said).encode()}, part)
    for name in ("affidavit.db", "keys.db"):
        engine = create_engine(f"sqlite:///{workspace.home / name}")
        tables = _tables(engine)
        engine.dispose()
        kept = tables.pop(f"main.{MAY_NAME_INPUTS}", None)
        _nothing_in(tables, part)
        if kept is not None:
            # The search does find what is there to be found.
            assert set(kinds_in(kept, part)) == {*IN_PATHS, *IN_LABELS}
    files = {
        name: content
        for name, content in _files(workspace.home).items()
        if not name.startswith("affidavit.db")
    }
    assert {"keys.db", "subjects.keys"} <= set(files)
    _nothing_in(files, part)
    _nothing_in(_files(workspace.folder / "out"), part)


@contextmanager
def _overheard(url: str) -> Iterator[list[str]]:
    """Collect every command that anybody sends to the broker in the block."""
    heard: list[str] = []
    ready, done = threading.Event(), threading.Event()

    def listen() -> None:
        # Patient: while workers start nobody sends anything.
        client = redis.Redis.from_url(url, socket_timeout=None)
        with client, client.monitor() as monitor:
            ready.set()
            for command in monitor.listen():
                heard.append(str(command))
                if "that-is-all" in heard[-1]:
                    done.set()
                    return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield heard
    finally:
        with redis.Redis.from_url(url) as client:
            client.echo("that-is-all")
        done.wait(30)
        thread.join(30)


def test_a_distributed_audit_leaks_none(
    postgres_url: str, broker_url: str, s3_place: StorePlace, tmp_path: Path
) -> None:
    """Queue, worker logs, both schemas, object keys and objects hold none either."""
    folder = tmp_path / "work"
    Workspace(folder=folder).lay_out(0)
    lay_out_identifiers(folder)
    part = photograph_bytes(folder)
    spec = _spec(folder)
    with (
        _overheard(broker_url) as heard,
        deployed(
            folder,
            database_url=postgres_url,
            place=s3_place,
            broker_url=broker_url,
            AFFIDAVIT_LOG_LEVEL="debug",
        ) as deployment,
    ):
        said = _work_through(deployment, spec)
        engine = deployment.engine()
        tables = _tables(engine)
        engine.dispose()
        logs = {path.name: path.read_bytes() for path in folder.glob("*.log")}
    assert any("affidavit.shard" in command for command in heard)
    assert f"{SCHEMA}.identities" in tables
    assert set(kinds_in(tables.pop(f"main.{MAY_NAME_INPUTS}"), part)) == {
        *IN_PATHS,
        *IN_LABELS,
    }
    _nothing_in(tables, part)
    _nothing_in({"queue": "\n".join(heard).encode(), "said": said.encode()}, part)
    assert len(logs) == 2
    _nothing_in(logs, part)
    _nothing_in(_objects(s3_place, tmp_path / "fetched"), part)


def _work_through(deployment: Deployment, spec: Path) -> str:
    """Return all that was said while an audit was submitted, worked on and shown."""
    deployment.start_worker("w-cpu", "cpu")
    deployment.start_worker("w-control", "control")
    deployment.wait_for_workers("w-cpu", "w-control")
    said = []
    for command in (("submit", str(spec), "--json"), ("status", "latest", "--json")):
        answer = deployment.call(*command)
        assert answer.code == 0, answer.err
        said.append(answer.out + answer.err)
    run = yaml.safe_load(said[0].partition("\naffidavit")[0])["run"]
    deployment.wait_for_state(run, "done", "incomplete", "failed")
    for command in (("items", "latest"), ("show", "latest", "0", "--out", "0.png")):
        answer = deployment.call(*command)
        assert answer.code == 0, answer.err
        said.append(answer.out + answer.err)
    return "\n".join(said)


def _objects(place: StorePlace, folder: Path) -> dict[str, bytes]:
    """Return the objects of the bucket by their keys."""
    assert place.s3 is not None
    client = boto3.client(
        "s3",
        endpoint_url=place.s3.endpoint_url,
        aws_access_key_id=place.s3.access_key_id,
        aws_secret_access_key=place.s3.secret_access_key,
        region_name=place.s3.region,
    )
    bucket, _, prefix = place.url.removeprefix("s3://").partition("/")
    for entry in client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
        path = folder / entry["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, entry["Key"], str(path))
    found = _files(folder)
    assert any(name.endswith(".parquet") for name in found)
    return found


@pytest.mark.parametrize("kind", SEEDS)
def test_the_search_finds_what_is_there(kind: str) -> None:
    """A seed in any case within other bytes is a hit of its kind alone."""
    hidden = b"\x00x" + SEEDS[kind].upper().encode() + b"y"
    assert kinds_in(hidden, b"\xff" * 64) == [kind]
