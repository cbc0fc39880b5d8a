# SPDX-License-Identifier: Apache-2.0
"""What is fixed before work starts, so that every worker does the same.

The plan is stored as JSON in the run's row; it holds what `auto` was resolved to.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from explain.kinds import IMAGE
from explain.methods.cards import METHODS
from explain.parameters import Parameter
from explain.remedies.cards import REMEDIES
from explain.thresholds.cards import POLICIES


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """The fixed facts of a run.

    Attributes:
        layer: Dotted name of the tapped layer.
        layer_reason: Why it was taken.
        method: Explanation method.
        method_arguments: Its parameters.
        remedies: What is done to input and map besides, with its parameters.
        grid: Side to which maps of pixel resolution are pooled.
        chunk: Most images in one forward pass of a method that makes many.
        target: `predicted`, `label`, or a class index as text.
        policy: Threshold policy.
        policy_arguments: Its parameters.
        metrics: Metric names in the spec's order, a profile's in its own.
        metric_arguments: Each metric's parameters.
        cards: Definition cards of metrics, method and policy, for the report.
        batch_size: Positions in a batch; with threads and dtype it decides last bits.
        threads: CPU threads of the computation.
        dtype: Name of the floating-point type of the network.
        compiled: Whether the network is compiled.
        precision: What the check against float32, not compiled, found; None where
            there was nothing to check.
        device: Kind of device the run was planned for: cpu, cuda or mps.
        seed: Seed of every random draw.
        input_shape: Channels, height, width.
        map_shape: Height and width of a stored map.
        std: Per-channel deviation, which gives the input's range.
        mean: Per-channel mean that was subtracted.
        class_count: Outputs of the network.
        classes: Their names, None where they are numbered.
        roots: Folders that the run may read.
        forwards_per_item: Cost of the metrics, in forward passes.
        passes_per_item: Cost of method, policy and metrics, in forward passes.
        item_seconds: What an item should take; None when it was not measured.
        speed_source: Where that comes from: a probe, or finished shards.
        batch_source: Where the batch size comes from: the spec, a search, an earlier
            search, or a default.
        batch_trials: Items a second by batch size, where there was a search.
        shard_size: Items in a shard.
        versions: Software that decides numbers.
        sanity: What the sanity gate found; None where the audit has none.
        kind: What an item is.
        map_kind: What the places of a map are, as artifacts name it.
        kind_options: What the kind takes besides, defaults included.
        files: SHA-256 of files that the network needs beside its weights, by their
            key in the spec.
    """

    layer: str
    layer_reason: str
    method: str
    target: str
    policy: str
    policy_arguments: dict[str, Any]
    metrics: list[str]
    cards: dict[str, Any]
    batch_size: int
    threads: int
    dtype: str
    device: str
    seed: int
    input_shape: list[int]
    map_shape: list[int]
    std: list[float]
    class_count: int
    classes: list[str] | None
    roots: list[str]
    forwards_per_item: int
    item_seconds: float | None
    shard_size: int
    mean: list[float] = field(default_factory=list)
    method_arguments: dict[str, Any] = field(default_factory=dict)
    metric_arguments: dict[str, dict[str, Any]] = field(default_factory=dict)
    remedies: dict[str, Any] = field(default_factory=dict)
    grid: int = 28
    passes_per_item: float | None = None
    chunk: int = 64
    versions: dict[str, str] = field(default_factory=dict)
    sanity: dict[str, Any] | None = None
    compiled: bool = False
    precision: dict[str, Any] | None = None
    speed_source: str = "probe"
    batch_source: str = "spec"
    batch_trials: dict[str, float] = field(default_factory=dict)
    kind: str = IMAGE
    map_kind: str = "pixels"
    kind_options: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether the network computes in float32 and is not compiled."""
        return self.dtype == "float32" and not self.compiled

    @property
    def policy_name(self) -> str:
        """The policy with its parameters, as rows are keyed by: `fixed:keep=0.1`.

        Parameters that have their default are left out, but for `keep`.
        """
        declared = POLICIES[self.policy].parameters if self.policy in POLICIES else {}
        return _keyed(self.policy, self.policy_arguments, declared)

    @property
    def method_name(self) -> str:
        """The method as rows are keyed by: `rise:masks=500`, `gradcam+smoothing`."""
        declared = METHODS[self.method].parameters if self.method in METHODS else {}
        parts = [_keyed(self.method, self.method_arguments, declared)]
        parts += [
            _keyed(name, self.remedies[name], REMEDIES[name].parameters)
            for name in REMEDIES
            if name in self.remedies
        ]
        return "+".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "RunPlan":
        """Return the plan that `to_json` gave."""
        return cls(**value)


def _keyed(
    name: str, arguments: Mapping[str, Any], declared: Mapping[str, Parameter]
) -> str:
    parts = []
    for key, value in sorted(arguments.items()):
        default = declared[key].default if key in declared else None
        plain = tuple(value) if isinstance(value, list) else value
        if key == "keep" or plain != default:
            parts.append(f"{key}={_short(plain)}")
    return ":".join([name, *parts])


def _short(value: Any) -> str:
    """Return a value as a key shows it: lists with commas, documents by digest."""
    if isinstance(value, tuple):
        return ",".join(f"{part:g}" for part in value)
    if isinstance(value, Mapping):
        # As the document's own digest, and the file's SHA-256, begin.
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:12]
    return str(value)
