# SPDX-License-Identifier: Apache-2.0
"""A run's threshold policy: its arguments in the spec, in the plan, and as made.

A parameter that is a document (a calibration, a learned table) is a path in the spec
and the document itself in the plan, so that workers need no file and the plan's digest
covers it.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from explain.errors import InvalidInputError
from explain.optimise.policy_table import PolicyTable
from explain.parameters import resolved
from explain.thresholds.calibration import Calibration
from explain.thresholds.cards import POLICIES
from pipeline.errors import SpecError
from pipeline.paths import AllowedRoots
from pipeline.run_plan import RunPlan
from pipeline.spec import ThresholdSpec

#: A calibration of every class that a network can have is far smaller.
MOST_BYTES = 4_000_000
#: What each kind of document is made into, and the command that writes it.
_KINDS: dict[str, tuple[Callable[[Mapping[str, Any]], Any], str]] = {
    "calibration": (Calibration.from_document, "calibrate RUN"),
    "table": (PolicyTable.from_document, "learn RUN RUN"),
}


def document_parameters(policy: str) -> list[str]:
    """Return the parameters of the policy that are documents."""
    declared = POLICIES[policy].parameters if policy in POLICIES else {}
    return [name for name, one in declared.items() if one.kind is object]


def with_absolute_paths(
    threshold: ThresholdSpec, *, base: Path, roots: AllowedRoots
) -> ThresholdSpec:
    """Return the section with its documents' paths absolute and under the roots.

    Raises:
        PathEscapeError: a path leads elsewhere.
        SpecError: it is no path.
    """
    paths: dict[str, str] = {}
    for name in document_parameters(threshold.policy):
        written = threshold.parameters.get(name)
        if not isinstance(written, str):
            raise SpecError(
                f"threshold.{name}: expected the path of a file that `affidavit "
                f"{_KINDS[name][1]} --out FILE` wrote, got {written!r}."
            )
        paths[name] = str(roots.resolve(written, base=base))
    return threshold.model_copy(update=paths) if paths else threshold


def planned_arguments(threshold: ThresholdSpec) -> dict[str, Any]:
    """Return every parameter's value as the plan holds it, documents read.

    Raises:
        SpecError: a document cannot be read or is of another kind.
    """
    owner = f"policy {threshold.policy!r}"
    values: dict[str, Any] = resolved(
        owner, POLICIES[threshold.policy].parameters, threshold.parameters
    )
    for name in document_parameters(threshold.policy):
        document = _read(Path(str(values[name])), name)
        _made(document, name)
        values[name] = document
    return values


def policy_arguments(plan: RunPlan) -> dict[str, Any]:
    """Return the arguments that the plan's policy is created with."""
    arguments = dict(plan.policy_arguments)
    for name in document_parameters(plan.policy):
        arguments[name] = _made(arguments[name], name)
    return arguments


def with_documents(policy: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with each document made, given as a path or its content.

    Raises:
        SpecError: a document cannot be read or is of another kind.
    """
    made = dict(arguments)
    for name in document_parameters(policy):
        value = made.get(name)
        if isinstance(value, str | Path):
            value = _read(Path(value), name)
        if isinstance(value, Mapping):
            made[name] = _made(value, name)
    return made


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SpecError(f"threshold.{name}: {path} is too large for one.")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SpecError(
            f"threshold.{name}: the file {path} cannot be read ({exc.strerror}); make "
            f"one with `affidavit {_KINDS[name][1]} --out FILE`."
        ) from exc
    except ValueError as exc:
        raise SpecError(f"threshold.{name}: {path} is not JSON.") from exc
    if not isinstance(document, dict):
        raise SpecError(f"threshold.{name}: {path} holds no {name}.")
    return document


def _made(document: Mapping[str, Any], name: str) -> Any:
    """Return what the document stands for."""
    try:
        return _KINDS[name][0](document)
    except InvalidInputError as exc:
        raise SpecError(f"threshold.{name}: {exc}") from exc
