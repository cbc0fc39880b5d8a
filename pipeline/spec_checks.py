# SPDX-License-Identifier: Apache-2.0
"""A spec checked as far as that goes without its network: no torch is loaded here.

Loading torch takes seconds, and most mistakes are in names and paths.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from explain.methods.cards import METHODS
from explain.metrics.cards import METRICS
from explain.thresholds.cards import POLICIES
from pipeline.criteria import parse_criterion
from pipeline.criterion_clauses import require_columns
from pipeline.errors import SpecError
from pipeline.kind_checks import check_kind, with_absolute_files
from pipeline.labels import load_class_names
from pipeline.models.folder_files import names_of_folder, with_folder_files
from pipeline.outlook import refuse_without_labels, refuse_without_masks
from pipeline.paths import AllowedRoots
from pipeline.policies import with_absolute_paths
from pipeline.services import Services
from pipeline.sources.source import Source
from pipeline.spec import HUB, AuditSpec
from pipeline.spec_file import load_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSpec:
    """A spec whose names, paths and source are sound.

    Attributes:
        written: As its file has it.
        resolved: With absolute paths, as workers need it.
        source: Where the items come from; nothing has been listed yet.
        roots: The folders that the audit may read.
    """

    written: AuditSpec
    resolved: AuditSpec
    source: Source
    roots: AllowedRoots


def check_spec(services: Services, spec_path: Path) -> CheckedSpec:
    """Return the spec, checked down to its files; neither database nor store is used.

    Raises:
        SpecError: the spec is wrong, or every item of it would have to fail.
        ModelError: the configuration of a folder's network cannot be used.
        SourceError: the data source cannot be opened.
    """
    return check_written(
        services, load_spec(spec_path), base=spec_path.resolve().parent
    )


def check_written(services: Services, written: AuditSpec, *, base: Path) -> CheckedSpec:
    """Return a spec that was read before, checked as `check_spec` does.

    Args:
        services: Settings and S3 access.
        written: The spec.
        base: The folder that its relative paths count from.

    Raises:
        SpecError, SourceError: as `check_spec`.
    """
    check_names(written)
    roots = services.roots(base, Path.cwd())
    resolved = resolve_paths(written, base=base, roots=roots)
    from pipeline.sources.opening import open_source  # noqa: PLC0415 - pyarrow

    source = open_source(
        written.data,  # whose paths a message can show as they are written
        base=base,
        roots=roots,
        s3_client=services.s3_client,
        label_wanted=written.explain.target == "label",
    )
    refuse_without_labels(written, source)
    refuse_without_masks(written)
    # Last, because the names of ImageNet come with torchvision and so with torch.
    names = load_class_names(written.model, base=base, roots=roots)
    if names is None:
        names = names_of_folder(resolved.model)
    model = resolved.model.model_copy(update={"classes": names})
    return CheckedSpec(
        written=written,
        resolved=resolved.model_copy(update={"model": model}),
        source=source,
        roots=roots,
    )


def check_names(spec: AuditSpec) -> None:
    """Nothing happens if every name and criterion of the spec is known.

    Raises:
        SpecError: one is not; the message names the nearest.
    """
    _known("explain.method", spec.explain.method, METHODS)
    _known("threshold.policy", spec.threshold.policy, POLICIES)
    names = spec.metric_names
    for name in names:
        _known("metrics", name, METRICS)
    check_kind(spec)
    if len(set(names)) != len(names):
        raise SpecError("metrics: a metric is named twice; name each once.")
    complete = METHODS[spec.explain.method].complete
    measured = {
        key for name in names for key in METRICS[name].values_for(complete=complete)
    }
    for text in spec.criteria:
        criterion = parse_criterion(text, known_values=measured)
        require_columns(text, criterion.by, spec.data.columns.groups)


def _known(where: str, name: str, known: Iterable[str]) -> None:
    choices = sorted(known)
    if name in choices:
        return
    near = get_close_matches(name, choices, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}" if near else f"known are {', '.join(choices)}"
    raise SpecError(f"{where}: there is no '{name}'; {hint}.")


def resolve_paths(spec: AuditSpec, *, base: Path, roots: AllowedRoots) -> AuditSpec:
    """Return the spec with its local paths absolute and under the allowed roots.

    Raises:
        PathEscapeError: a path leads elsewhere.
    """
    model, data = spec.model, spec.data
    model = with_folder_files(model, base=base, roots=roots)
    if model.weights is not None and model.weights != HUB:
        weights = roots.resolve(model.weights, base=base)
        if not weights.is_file():
            raise SpecError(
                f"model.weights: there is no file {model.weights!r} (looked for at "
                f"{weights}); paths count from the spec's folder."
            )
        model = model.model_copy(update={"weights": str(weights)})
    model = with_absolute_files(model, base=base, roots=roots)
    if "://" not in data.source:
        resolved = str(roots.resolve(data.source, base=base))
        data = data.model_copy(update={"source": resolved})
    threshold = with_absolute_paths(spec.threshold, base=base, roots=roots)
    return spec.model_copy(
        update={"model": model, "data": data, "threshold": threshold}
    )
