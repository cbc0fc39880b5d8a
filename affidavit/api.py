# SPDX-License-Identifier: Apache-2.0
"""The public Python API: load a spec, run it, read results, explain one batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affidavit.run_facts import require_database, run_document
from pipeline.access.authentication import admitted
from pipeline.access.policy import Right
from pipeline.item_listing import is_private, shown_uri
from pipeline.services import Services
from pipeline.settings import load_settings
from pipeline.spec import AuditSpec
from pipeline.spec_file import load_spec as _load_spec
from storage.events import local_user
from storage.item_listing import iterate_listed
from storage.runs import get_run

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import torch
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        run: The run's id.
        state: Its final state.
        items: Counts: total, done, failed.
        result_digest: SHA-256 over all records, None if items are missing.
        criteria_met: Whether every criterion passed.
        report: Where the HTML report lies.
        document: Everything, as `affidavit run --json` prints it.
    """

    run: str
    state: str
    items: dict[str, int]
    result_digest: str | None
    criteria_met: bool | None
    report: str | None
    document: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One batch, explained.

    Shape: logits (N, K) float32, targets (N,) int64, maps (N, h, w) float32 at the
    method's stored resolution, masks (N, H, W) bool, achieved (N,) float64 the fraction
    kept, cut (N,) float32 the smallest value kept, energy_retained (N,) float64 the
    share of the positive sum kept, status of length N (`ok`, or why a mask is not what
    was asked for).
    """

    logits: "npt.NDArray[np.float32]"
    targets: "npt.NDArray[np.int64]"
    maps: "npt.NDArray[np.float32]"
    masks: "npt.NDArray[np.bool_]"
    achieved: "npt.NDArray[np.float64]"
    cut: "npt.NDArray[np.float32]"
    energy_retained: "npt.NDArray[np.float64]"
    status: tuple[str, ...]
    layer: str | None


def load_spec(path: str | Path) -> AuditSpec:
    """Return the spec in a YAML file.

    Raises:
        pipeline.errors.SpecError: it is wrong; the message says where.
    """
    return _load_spec(Path(path))


def run(
    spec: str | Path,
    *,
    home: str | Path | None = None,
    on_items: Callable[[int], None] = lambda _count: None,
) -> RunOutcome:
    """Return how the audit came out, run here in this process.

    Args:
        spec: The spec file.
        home: Folder of database, objects and key; default `.affidavit`.
        on_items: Told how many more items are through.

    Raises:
        pipeline.errors.AuditError: spec, model, data or a device is not usable.
        storage.errors.StorageError: the database or the object store failed; go on
            with `affidavit resume`.
    """
    from pipeline.embedded import create_embedded_run, run_embedded  # noqa: PLC0415
    from pipeline.planning import prepare  # noqa: PLC0415
    from pipeline.trust import trust_recorded  # noqa: PLC0415

    services = _services(home, Right.SUBMIT)
    try:
        source = _load_spec(Path(spec)).model.source
        with trust_recorded(services, source, embedded=True):
            audit = prepare(services, Path(spec))
        run_id = create_embedded_run(services, audit)
        run_embedded(services, run_id, audit.executor, on_items=on_items)
        document = run_document(services, get_run(services.engine, run_id))
        document["warnings"] = audit.foreseen.warnings()
    finally:
        services.close()
    return RunOutcome(
        run=run_id,
        state=document["state"],
        items=document["items"],
        result_digest=document["result_digest"],
        criteria_met=document["criteria_met"],
        report=document["report"],
        document=document,
    )


def results(
    run_id: str = "latest", *, home: str | Path | None = None
) -> "pd.DataFrame":
    """Return a run's items as a table: one row an explanation, one column a metric.

    `uri` says where an item is; it is the item's token where the spec names a subject
    column.
    That they were read is recorded in the ledger first.

    Raises:
        storage.errors.UnknownRunError: there is no such run.
        storage.errors.SchemaOutdatedError: there is no database of this version.
    """
    import pandas as pd  # noqa: PLC0415

    from ledger.entries import Action  # noqa: PLC0415
    from pipeline.deeds import record_deed  # noqa: PLC0415

    services = _services(home, Right.READ_RESULTS)
    try:
        require_database(services)
        found = get_run(services.engine, run_id)
        private = is_private(found)
        record_deed(services, Action.RESULTS_READ, f"run/{found.id}")
        rows = [
            {
                "item_index": row.item_index,
                "item_id": row.item_id,
                "uri": shown_uri(item, private=private),
                "status": row.status,
                "reason": row.reason,
                "predicted": row.predicted,
                "target": row.target,
                "label": row.label,
                "score": row.score,
                "keep_requested": row.keep_requested,
                "keep_achieved": row.keep_achieved,
                "cut": row.cut,
                **row.metrics,
            }
            for item in iterate_listed(services.engine, found.id)
            if (row := item.row) is not None
        ]
    finally:
        services.close()
    return pd.DataFrame(rows)


def explain(  # noqa: PLR0913 - what a notebook asks for, by name
    model: "nn.Module",
    inputs: "torch.Tensor",
    *,
    targets: "torch.Tensor | Sequence[int] | None" = None,
    layer: str = "auto",
    method: str = "gradcam",
    parameters: Mapping[str, Any] | None = None,
    policy: str = "fixed",
    images: "torch.Tensor | None" = None,
    regions: "torch.Tensor | None" = None,
    **threshold: Any,
) -> Explained:
    """Return the thresholded explanations of one batch; the model is left as it was.

    Args:
        model: A classifier of images.
        inputs: (N, C, H, W), normalised as the model takes them.
        targets: (N,) class indices; None explains the predicted classes.
        layer: Dotted name of the layer to tap, or `auto`.
        method: See `affidavit methods`.
        parameters: The method's own parameters.
        policy: See `affidavit policies`.
        images: (N, C, H, W) in [0, 1], what a person sees, for methods and policies
            that look at edges or regions of the picture.
        regions: (N, H, W) int64, a label for each position, for `semantic` with
            `segments="given"`.
        **threshold: The policy's own parameters, such as `keep=0.10`.

    Raises:
        explain.errors.ExplainError: model, layer, targets or parameters are of no use.
        pipeline.errors.SpecError: a calibration or a table cannot be read.
    """
    import torch  # noqa: PLC0415

    from explain.maps import dequantise  # noqa: PLC0415
    from explain.thresholded import Recipe, explain_thresholded  # noqa: PLC0415
    from pipeline.policies import with_documents  # noqa: PLC0415

    if targets is not None:
        targets = torch.as_tensor(targets)
    recipe = Recipe(
        method=method,
        parameters=parameters or {},
        layer=layer,
        policy=policy,
        threshold=with_documents(policy, threshold),
    )
    found, tapped = explain_thresholded(
        model, inputs, recipe, targets=targets, images=images, regions=regions
    )
    return Explained(
        logits=found.attribution.logits.cpu().numpy(),
        targets=found.attribution.targets.cpu().numpy(),
        maps=dequantise(found.stored).cpu().numpy(),
        masks=found.threshold.mask.cpu().numpy(),
        achieved=found.threshold.achieved.cpu().numpy(),
        cut=found.threshold.cut.cpu().numpy(),
        energy_retained=found.threshold.energy_retained.cpu().numpy(),
        status=tuple(str(status) for status in found.threshold.status),
        layer=tapped,
    )


def _services(home: str | Path | None, right: Right) -> Services:
    settings = load_settings(home=Path(home) if home is not None else None)
    services = Services(settings=settings, actor=local_user())
    try:
        return admitted(services, right)
    except BaseException:
        services.close()
        raise
