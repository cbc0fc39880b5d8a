# SPDX-License-Identifier: Apache-2.0
"""Well-formed inputs, from which fuzzers make those that are nearly so."""

import io
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from ledger.bundle import ArtifactSource, BundleEntry, write_bundle
from ledger.canonical import canonical_bytes, sha256_hex
from ledger.checkpoint import Checkpoint, SigningKey
from ledger.entries import Action, Entry
from ledger.merkle import HashTree, leaf_hash
from ledger.tiles import entry_bundle
from pipeline.spec_template import TEMPLATE

ORIGIN = "example.com/log"
#: Any key will do; a target is to answer, not to be satisfied.
KEY = SigningKey.generate(ORIGIN)
ARTIFACT = b"an artifact" * 20
RESULT = sha256_hex(b"a result")
REPORT = canonical_bytes({"result_digest": RESULT})


def bodies() -> list[bytes]:
    """Return the entries of a small run."""
    digest = sha256_hex(ARTIFACT)
    told: list[tuple[Action, str, str | None, dict[str, str | int]]] = [
        (Action.RUN_PLANNED, "run/r1", None, {"shards": 1}),
        (
            Action.SHARD_FINISHED,
            "run/r1/shard/0",
            digest,
            {"key": "runs/r1/0.parquet", "sha256": digest, "size": len(ARTIFACT)},
        ),
        (Action.RUN_FINALISED, "run/r1", RESULT, {}),
        (
            Action.REPORT_WRITTEN,
            "run/r1/report",
            None,
            {"json_sha256": sha256_hex(REPORT)},
        ),
    ]
    return [
        Entry(
            at="2026-01-01T00:00:00Z",
            actor="worker/w",
            action=action,
            object=obj,
            digest=digest_of,
            details=details,
        ).to_bytes()
        for action, obj, digest_of, details in told
    ]


@cache
def checkpoint() -> str:
    """Return a signed checkpoint over the run's entries."""
    tree = HashTree(leaf_hash(body) for body in bodies())
    return KEY.sign(Checkpoint(ORIGIN, len(tree), tree.root(len(tree))))


@cache
def bundle_members() -> dict[str, bytes]:
    """Return the members of a bundle that holds."""
    told = bodies()
    tree = HashTree(leaf_hash(body) for body in told)
    with TemporaryDirectory() as name:
        path = Path(name) / "bundle.zip"
        write_bundle(
            path,
            run="r1",
            checkpoint_note=checkpoint(),
            entries=(
                BundleEntry(n, body, tuple(tree.inclusion_proof(n, len(told))))
                for n, body in enumerate(told)
            ),
            artifacts=[
                ArtifactSource("runs/r1/0.parquet", lambda: io.BytesIO(ARTIFACT))
            ],
            report_json=lambda: io.BytesIO(REPORT),
            report_html=None,
            result_digest=RESULT,
            vkey=KEY.verifier,
        )
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: Mapping[str, bytes]) -> bytes:
    """Return an archive of these members; a name that no archive takes is left out."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def flattened(members: Mapping[str, bytes]) -> bytes:
    """Return the members as one text of bytes that a fuzzer can chop at will."""
    parts = []
    for name, data in members.items():
        written = name.encode()
        parts += [bytes([len(written)]), written, len(data).to_bytes(3, "big"), data]
    return b"".join(parts)


def unflattened(data: bytes) -> dict[str, bytes]:
    """Return the members of whatever a fuzzer made of `flattened`."""
    members: dict[str, bytes] = {}
    while data:
        length = data[0]
        name, data = data[1 : 1 + length], data[1 + length :]
        size = int.from_bytes(data[:3], "big")
        text = name.decode("utf-8", "replace").replace("\0", "?") or "?"
        members[text] = data[3 : 3 + size]
        data = data[3 + size :]
    return members


@cache
def parquet() -> bytes:
    """Return a manifest in Parquet."""
    stream = io.BytesIO()
    pq.write_table(pa.table({"path": ["a.png", "b.png"], "who": ["x", None]}), stream)
    return stream.getvalue()


@cache
def seeds() -> dict[str, list[bytes]]:
    """Return well-formed inputs by target."""
    note = checkpoint().encode()
    return {
        "checkpoint": [note, f"{KEY.verifier}\n".encode()],
        "entry": bodies(),
        "tiles": [entry_bundle(bodies()), bytes(64)],
        "zip": [zipped(bundle_members())],
        "bundle": [flattened(bundle_members())],
        "spec": [TEMPLATE.encode(), b"audit: a\nmodel: {source: 'torchvision:x'}\n"],
        "csv": [b"path,who\na.png,x\nb.png,\n", b'path,who\n"a\nb.png","x"\n'],
        "parquet": [parquet()],
    }
