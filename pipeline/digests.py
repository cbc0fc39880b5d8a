# SPDX-License-Identifier: Apache-2.0
"""The digests that make two runs comparable: spec, manifest, item record, result.

Each is SHA-256 over canonical JSON (RFC 8785). Floating-point values enter as C99
hexadecimal text of their exact value, so no formatting rule can change a digest. No
time, place, token or salt is in any of them.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from explain.kinds import IMAGE
from explain.metrics.cards import METRICS
from ledger.canonical import canonical_bytes
from pipeline.domain import ItemResult
from pipeline.kinds.card import MODEL_FILES

if TYPE_CHECKING:
    from pipeline.run_plan import RunPlan
    from pipeline.spec import AuditSpec

#: Sections and keys of the spec that say where, when and why, not what.
_PLACES = {
    "data": {"source"},
    "model": {"weights", "sha256", "record"},
    "privacy": {"retention", "legal_basis"},
    "run": {"device", "shard_size", "max_attempts", "priority", "tolerance"},
}


def spec_digest(spec: "AuditSpec", plan: "RunPlan") -> str:
    """Return the hex digest of everything in the spec that decides results.

    Layer, thread count, class names and parameters enter as resolved: `auto` may
    resolve differently elsewhere, a path says nothing about what is in the file, and
    a default that is written out changes nothing.
    """
    content = spec.model_dump(mode="json", exclude={"schedule", "sanity"})
    for section, keys in _PLACES.items():
        for key in keys:
            content[section].pop(key, None)
    content["model"]["layer"] = plan.layer
    content["model"]["classes"] = plan.classes
    content["run"]["threads"] = plan.threads
    if spec.run.batch_size == "auto":
        content["run"]["batch_size"] = plan.batch_size
    # What is not asked for is left out, as in specs that could not ask for it.
    for key, usual in (("dtype", "float32"), ("compile", False)):
        if content["run"][key] == usual:
            del content["run"][key]
    _leave_out_kind(content, plan)
    content["explain"]["parameters"] = plan.method_arguments
    for name in spec.explain.remedies:
        content["explain"][name] = plan.remedies.get(name)
    content["metrics"] = [_asked(name, given) for name, given in spec.asked_metrics]
    content["threshold"] = {
        "policy": plan.policy,
        "parameters": plan.policy_arguments,
    }
    return hashlib.sha256(canonical_bytes(_exact(content))).hexdigest()


def _leave_out_kind(content: dict[str, Any], plan: "RunPlan") -> None:
    """What only items beside images have is left out of others' specs.

    Files beside the weights enter by their digests, as they may lie anywhere.
    """
    for name in MODEL_FILES:
        del content["model"][name]
    data, columns = content["data"], content["data"]["columns"]
    for name, usual in (("text", None), ("features", []), ("id", None), ("step", None)):
        if columns[name] == usual:
            del columns[name]
    if plan.kind == IMAGE:
        del data["kind"], data["options"]
        return
    data["options"] = plan.kind_options
    content["model"]["files"] = plan.files


def _asked(name: str, given: Mapping[str, Any]) -> Any:
    """Return the metric's name, with its parameters where they are not the defaults."""
    arguments = METRICS[name].arguments(given)
    if arguments == METRICS[name].arguments({}):
        return name
    return {"name": name, "parameters": arguments}


def document_digest(*documents: Mapping[str, Any]) -> str:
    """Return the hex digest of JSON documents, each value of them included.

    What comes back from a database after a round through JSON has the same digest.
    """
    plain = json.loads(json.dumps(documents))
    return hashlib.sha256(canonical_bytes(_exact(plain))).hexdigest()


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
    """The running digest of a manifest: order, URIs, sizes, versions and labels.

    It is taken over the stored rows, so that it can be recomputed from them. Where a
    row has a salt, what may be personal enters under it: the digest goes into ledger
    and report, and a guessed name must not be confirmed by it.
    """

    #: What of a row of the table `locations` enters.
    COLUMNS = (
        "uri",
        "size_bytes",
        "version",
        "label",
        "mask_uri",
        "subject_token",
        "groups",
        "salt",
        "erased_place",
    )

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one more row of the table `locations`, in manifest order."""
        place: Any = row.get("erased_place") or self.place(row)
        record = [place, row["subject_token"], dict(row["groups"] or {})]
        # Canonical JSON holds no raw newline, so it can end a record.
        self._hash.update(canonical_bytes(record) + b"\n")

    @classmethod
    def place(cls, row: Mapping[str, Any]) -> Any:
        """Return what enters of where an item is and what is said of it.

        Of an erased item only this is kept: without the salt no guess is confirmed.
        """
        place = [row[name] for name in cls.COLUMNS[:5]]
        if row["salt"] is None:
            return place
        return hashlib.sha256(row["salt"] + canonical_bytes(place)).hexdigest()

    def hexdigest(self) -> str:
        """Return the digest of the items so far."""
        return self._hash.hexdigest()


def record_digest(
    result: ItemResult, *, content_sha256: str | None, truth_sha256: str | None = None
) -> bytes:
    """Return the 32-byte digest of one item's canonical record.

    Args:
        result: The item as stored.
        content_sha256: Digest of the input's bytes, unsalted; None if it was not read.
        truth_sha256: The same of the ground-truth mask; None if there is none.
    """
    record = canonical_record(
        result, content_sha256=content_sha256, truth_sha256=truth_sha256
    )
    return hashlib.sha256(canonical_bytes(record)).digest()


def canonical_record(
    result: ItemResult, *, content_sha256: str | None, truth_sha256: str | None = None
) -> dict[str, Any]:
    """Return what counts of one item: no time, place, token or salt.

    Args:
        result: The item as stored.
        content_sha256: Digest of the input's bytes, unsalted; None if it was not read.
        truth_sha256: The same of the ground-truth mask; None if there is none.
    """
    record: dict[str, Any] = {
        "index": result.item_index,
        "input": content_sha256,
        "status": result.status.value,
        "reason": result.reason.value if result.reason else None,
        "method": result.method,
        "target_rule": result.target_rule,
        "policy": result.policy,
        "predicted": result.predicted,
        "target": result.target,
        "label": result.label,
        "score": _exact(result.score),
        "map_kind": result.map_kind,
        "axis_labels": list(result.axis_labels),
        "map": result.map_bytes.hex(),
        "scale": _exact(result.map_scale),
        "shape": [result.map_height, result.map_width],
        "keep_requested": _exact(result.keep_requested),
        "keep_achieved": _exact(result.keep_achieved),
        "cut": _exact(result.cut),
        "metrics": {key: _exact(float(v)) for key, v in result.metrics.items()},
        "absences": dict(result.absences),
        **_later_fields(result),
    }
    if truth_sha256 is not None:
        record["truth"] = truth_sha256
    return record


def _later_fields(result: ItemResult) -> dict[str, Any]:
    """Return the fields that earlier versions did not have, where they are set.

    Leaving out what is not set keeps the digests of artifacts that they wrote.
    """
    fields: dict[str, Any] = {}
    if result.energy_retained is not None:
        fields["energy_retained"] = _exact(result.energy_retained)
    if result.mask_bits:
        fields["mask"] = result.mask_bits.hex()
    if result.levels:
        fields["levels"] = [_exact(asdict(level)) for level in result.levels]
    return fields


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
