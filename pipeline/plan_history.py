# SPDX-License-Identifier: Apache-2.0
"""What the database tells a plan of earlier runs, if there is a database at all.

Planning works without one, and with one of another version; then nothing is known.
"""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from pipeline.batch_search import BatchChoice
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.shard_sizing import speed_key, work_key
from storage.engine import transaction
from storage.errors import StorageError
from storage.schema import require_current
from storage.speeds import (
    MeasuredPace,
    known_batch_size,
    measured_pace,
    remember_batch_size,
)


class PlanHistory:
    """Earlier runs, as far as they can be asked."""

    def __init__(self, services: Services) -> None:
        self._engine = _ready_engine(services)

    def pace(self, plan: RunPlan, model_sha256: str) -> MeasuredPace | None:
        """Return the pace of finished shards of like runs, or None."""
        if self._engine is None:
            return None
        try:
            return measured_pace(self._engine, speed_key(plan, model_sha256))
        except StorageError:
            return None

    def batch_choice(
        self, plan: RunPlan, model_sha256: str, device_name: str | None
    ) -> BatchChoice | None:
        """Return the batch size that an earlier search found for like work, or None.

        Args:
            plan: The plan so far.
            model_sha256: Digest of the weights.
            device_name: The very device; None takes any of the plan's kind.
        """
        if self._engine is None:
            return None
        try:
            found = known_batch_size(
                self._engine,
                work_key(plan, model_sha256),
                device=plan.device,
                device_name=device_name,
            )
        except StorageError:
            return None
        if found is None:
            return None
        return BatchChoice(
            batch_size=found.batch_size, source="earlier search", trials=found.trials
        )

    def remember(
        self, plan: RunPlan, model_sha256: str, choice: BatchChoice, device_name: str
    ) -> None:
        """The next plan of like work need not search, if there is a database."""
        if self._engine is None:
            return
        try:
            with transaction(self._engine) as session:
                remember_batch_size(
                    session,
                    work_key(plan, model_sha256),
                    device=plan.device,
                    device_name=device_name,
                    batch_size=choice.batch_size,
                    trials=choice.trials,
                )
        except StorageError:
            # Whoever needs the database more is told that it is away.
            return


def _ready_engine(services: Services) -> sa.Engine | None:
    """Return the database if it is there and of this version."""
    try:
        url = make_url(services.settings.resolved_database_url)
    except (ArgumentError, ValueError):
        return None
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        # Opening it would make it.
        return None
    try:
        require_current(services.engine)
    except StorageError:
        return None
    return services.engine
