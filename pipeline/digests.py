# SPDX-License-Identifier: Apache-2.0
"""The digests that make two runs comparable: spec, manifest, item record, result.

Each is SHA-256 over canonical JSON (RFC 8785). Floating-point values enter as C99
hexadecimal text of their exact value, so no formatting rule can change a digest. No
time, place, token or salt is in any of them.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from ledger.canonical import canonical_bytes
from pipeline.domain import ItemResult, SourceItem
from pipeline.spec import AuditSpec

#: Sections and keys of the spec that say where and when, not what.
_PLACES = {
    "data": {"source"},
    "model": {"weights"},
    "run": {"device", "shard_size", "max_attempts"},
}


def spec_digest(spec: AuditSpec, *, layer: str, threads: int) -> str:
    """Return the hex digest of everything in the spec that decides results.

    The layer and the thread count enter as resolved, since `auto` may resolve
    differently elsewhere.
    """
    content = spec.model_dump(mode="json", exclude={"schedule"})
    for section, keys in _PLACES.items():
        for key in keys:
            content[section].pop(key, None)
    content["model"]["layer"] = layer
    content["run"]["threads"] = threads
    return hashlib.sha256(canonical_bytes(_exact(content))).hexdigest()


def _exact(value: Any) -> Any:
    """Replace each float by its exact hexadecimal text."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, dict):
        return {key: _exact(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(part) for part in value]
    return value


class ManifestDigest:
    """The running digest of a manifest: order, URIs, sizes, versions and labels."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, item: SourceItem) -> None:
        """Take one more item, in manifest order."""
        record = [
            item.uri,
            item.size_bytes,
            item.version,
            item.label,
            item.mask_uri,
            item.subject,
            dict(item.groups),
        ]
        # Canonical JSON holds no raw newline, so it can end a record.
        self._hash.update(canonical_bytes(record) + b"\n")

    def hexdigest(self) -> str:
        """Return the digest of the items so far."""
        return self._hash.hexdigest()


def record_digest(result: ItemResult, *, content_sha256: str | None) -> bytes:
    """Return the 32-byte digest of one item's canonical record.

    Args:
        result: The item as stored.
        content_sha256: Digest of the input's bytes, unsalted; None if it was not read.
    """
    record = {
        "index": result.item_index,
        "input": content_sha256,
        "status": result.status.value,
        "reason": result.reason.value if result.reason else None,
        "method": result.method,
        "target_rule": result.target_rule,
        "policy": result.policy,
        "predicted": result.predicted,
        "target": result.target,
        "score": _exact(result.score),
        "map_kind": result.map_kind,
        "map": result.map_bytes.hex(),
        "scale": _exact(result.map_scale),
        "shape": [result.map_height, result.map_width],
        "keep_requested": _exact(result.keep_requested),
        "keep_achieved": _exact(result.keep_achieved),
        "cut": _exact(result.cut),
        "metrics": {key: _exact(float(v)) for key, v in result.metrics.items()},
        "absences": dict(result.absences),
    }
    return hashlib.sha256(canonical_bytes(record)).digest()


def result_digest(
    spec_sha256: str, model_sha256: str, record_digests: Iterable[bytes]
) -> str:
    """Return the hex digest of a whole run from its records in manifest order."""
    header = {
        "schema": "affidavit.result/1",
        "spec": spec_sha256,
        "model": model_sha256,
    }
    digest = hashlib.sha256(canonical_bytes(header) + b"\n")
    for record in record_digests:
        digest.update(record)
    return digest.hexdigest()
