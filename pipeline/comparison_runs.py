# SPDX-License-Identifier: Apache-2.0
"""The runs of a comparison: one audit under several methods and policies."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

from pipeline.comparison import Contender
from pipeline.embedded import create_embedded_run, run_embedded
from pipeline.errors import SpecError
from pipeline.planning import prepare_checked
from pipeline.services import Services
from pipeline.spec import AuditSpec
from pipeline.spec_checks import CheckedSpec, check_names
from pipeline.trust import trust_recorded
from storage.runs import get_run

#: How often memory is looked at.
_LOOK_S = 0.02
_STATM = Path("/proc/self/statm")
_PAGE = 4096


def variants(
    checked: CheckedSpec, methods: Sequence[str], policies: Sequence[str]
) -> list[CheckedSpec]:
    """Return the audit under each method and each policy, the spec's own first.

    A method or policy that the spec does not name has its default parameters.

    Raises:
        SpecError: a name is unknown, or there is nothing to compare.
    """
    spec = checked.written
    wanted_methods = list(dict.fromkeys(methods or [spec.explain.method]))
    wanted_policies = list(dict.fromkeys(policies or [spec.threshold.policy]))
    found = [
        replace(
            checked,
            written=_changed(checked.written, method, policy),
            resolved=_changed(checked.resolved, method, policy),
        )
        for method in wanted_methods
        for policy in wanted_policies
    ]
    if len(found) < 2:
        raise SpecError("give at least two methods or two policies to compare.")
    for one in found:
        check_names(one.written)
    return found


def _changed(spec: AuditSpec, method: str, policy: str) -> AuditSpec:
    content: dict[str, Any] = spec.model_dump(mode="json")
    if method != spec.explain.method:
        content["explain"] |= {"method": method, "parameters": {}}
    if policy != spec.threshold.policy:
        content["threshold"] = {"policy": policy}
    content["audit"] = f"{spec.audit} - {method} {policy}"[:200]
    # A criterion is about one audit; here values are set beside each other.
    content["criteria"] = []
    return AuditSpec.model_validate(content)


def run_variant(services: Services, variant: CheckedSpec) -> Contender:
    """Return the finished run of one variant, done here.

    Raises:
        AuditError, StorageError: as `affidavit run`.
    """
    with trust_recorded(services, variant.written.model.source, embedded=True):
        audit = prepare_checked(services, variant)
    run_id = create_embedded_run(services, audit)
    with _watched_memory() as peaks:
        run_embedded(services, run_id, audit.executor)
    run = get_run(services.engine, run_id)
    return Contender(run=run, peak_bytes=peaks[0] if peaks else None)


@contextmanager
def _watched_memory() -> Iterator[list[int]]:
    """The list holds, once the block has ended, the most memory above its start.

    On a GPU it is that of the device; empty where neither can be known.
    """
    import torch  # noqa: PLC0415 - loaded by now

    found: list[int] = []
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield found
        found.append(torch.cuda.max_memory_allocated() - before)
        return
    if not _STATM.exists():
        yield found
        return
    start, peak, ended = _resident(), [0], Event()

    def look() -> None:
        while not ended.is_set():
            peak[0] = max(peak[0], _resident() - start)
            time.sleep(_LOOK_S)

    watcher = Thread(target=look, name="memory", daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()
    found.append(peak[0])


def _resident() -> int:
    return int(_STATM.read_text().split()[1]) * _PAGE
