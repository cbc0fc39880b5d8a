# SPDX-License-Identifier: Apache-2.0
"""Whether what an audit asks for is defined for its kind of items. No torch here."""

from pathlib import Path

from explain.kinds import IMAGE
from explain.methods.cards import METHODS
from explain.metrics.cards import METRICS
from explain.thresholds.cards import POLICIES
from pipeline.errors import SpecError
from pipeline.kinds.card import MODEL_FILES
from pipeline.kinds.cards import KIND_CARDS
from pipeline.paths import AllowedRoots
from pipeline.spec import AuditSpec, ModelSpec


def check_kind(spec: AuditSpec) -> None:
    """Nothing happens if method, metrics and the rest are defined for the items.

    Raises:
        SpecError: one is not; the message names what is.
    """
    kind = spec.data.kind
    method = METHODS[spec.explain.method]
    if kind not in method.kinds:
        known = sorted(name for name, card in METHODS.items() if kind in card.kinds)
        raise SpecError(
            f"explain.method: '{method.name}' is not defined for items of kind {kind};"
            f" take one of {', '.join(known)}."
        )
    policy = POLICIES[spec.threshold.policy]
    if kind not in policy.kinds:
        raise SpecError(
            f"threshold.policy: '{policy.name}' is for items of kind"
            f" {' or '.join(policy.kinds)}; take another, such as fixed."
        )
    for name in spec.metric_names:
        if kind not in METRICS[name].kinds:
            raise SpecError(
                f"metrics: '{name}' is not defined for items of kind {kind}; leave it"
                " out."
            )
    if kind == IMAGE:
        _refuse_foreign(spec)
        return
    for name, given in spec.asked_metrics:
        if given.get("baseline", "zero") != "zero":
            raise SpecError(
                f"metrics: '{name}' takes no other baseline than zero for items of kind"
                f" {kind}: a unit that is removed shows its own baseline."
            )
    _refuse_image_sections(spec)


def _refuse_foreign(spec: AuditSpec) -> None:
    """Keys that only other kinds have must not stand in an audit of images."""
    columns = spec.data.columns
    for name in ("text", "features", "id", "step"):
        if getattr(columns, name):
            raise SpecError(
                f"data.columns.{name} is for items that are no images; say what they"
                f" are under data.kind ({', '.join(KIND_CARDS)})."
            )
    for name in MODEL_FILES:
        if getattr(spec.model, name) is not None:
            raise SpecError(
                f"model.{name} is for items that are no images; say what they are under"
                f" data.kind ({', '.join(KIND_CARDS)})."
            )


def _refuse_image_sections(spec: AuditSpec) -> None:
    kind = spec.data.kind
    for name, given in spec.explain.remedies.items():
        if given is not None:
            raise SpecError(f"explain.{name} is for images; leave it out for {kind}.")
    if spec.run.dtype != "float32" or spec.run.compile:
        raise SpecError(
            f"run.dtype and run.compile: networks of {kind} items compute in float32"
            " and are not compiled; leave both out."
        )
    if spec.model.layer != "auto":
        raise SpecError(f"model.layer: no layer is tapped for {kind}; leave it out.")


def with_absolute_files(
    model: ModelSpec, *, base: Path, roots: AllowedRoots
) -> ModelSpec:
    """Return the section with the paths of its further files absolute.

    Raises:
        SpecError: a file is not there.
        PathEscapeError: it lies outside the roots.
    """
    found: dict[str, str] = {}
    for name in MODEL_FILES:
        text = getattr(model, name)
        if text is None:
            continue
        path = roots.resolve(text, base=base)
        if not path.is_file():
            raise SpecError(
                f"model.{name}: there is no file {text!r} (looked for at {path}); paths"
                " count from the spec's folder."
            )
        found[name] = str(path)
    return model.model_copy(update=found)
