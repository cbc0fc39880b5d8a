# SPDX-License-Identifier: Apache-2.0
"""What is fixed before work starts, so that every worker does the same.

The plan is stored as JSON in the run's row; it holds what `auto` was resolved to.
"""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """The fixed facts of a run.

    Attributes:
        layer: Dotted name of the tapped layer.
        layer_reason: Why it was taken.
        method: Explanation method.
        target: `predicted`, `label`, or a class index as text.
        policy: Threshold policy.
        policy_arguments: Its parameters.
        metrics: Metric names in the spec's order.
        cards: Definition cards of metrics, method and policy, for the report.
        batch_size: Positions in a batch; with threads and dtype it decides last bits.
        threads: CPU threads of the computation.
        dtype: Name of the floating-point type.
        device: Kind of device the run was planned for: cpu, cuda or mps.
        seed: Seed of every random draw.
        input_shape: Channels, height, width.
        map_shape: Height and width of a stored map.
        std: Per-channel deviation, which gives the input's range.
        class_count: Outputs of the network.
        classes: Their names, None where they are numbered.
        roots: Folders that the run may read.
        forwards_per_item: Cost of the metrics, in forward passes.
        item_seconds: Measured on a warm-up batch; None when it was not measured.
        shard_size: Items in a shard.
        versions: Software that decides numbers.
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
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def policy_name(self) -> str:
        """The policy with its parameters, as rows are keyed by: `fixed:keep=0.1`."""
        parts = [f"{k}={v}" for k, v in sorted(self.policy_arguments.items())]
        return ":".join([self.policy, *parts])

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "RunPlan":
        """Return the plan that `to_json` gave."""
        return cls(**value)
