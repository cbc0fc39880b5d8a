# SPDX-License-Identifier: Apache-2.0
"""One deployment for all faults, calmed before each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fault_audit import ROUNDS
from tests.support.fault_deployment import fault_rig
from tests.support.fault_rig import FaultRig

FOLDER = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every fault is done as often as is asked for, each time on a run of its own."""
    if ROUNDS > 1 and "rig" in metafunc.fixturenames:
        metafunc.fixturenames.append("fault_round")
        metafunc.parametrize(
            "fault_round",
            range(ROUNDS),
            ids=[f"round{number}" for number in range(1, ROUNDS + 1)],
        )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Faults come first and together: one deployment, and the longest part begins."""
    items.sort(key=lambda item: not item.path.is_relative_to(FOLDER))


@pytest.fixture(scope="package")
def _deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultRig]:
    with fault_rig(tmp_path_factory.mktemp("faults")) as rig:
        yield rig


@pytest.fixture
def rig(_deployment: FaultRig) -> FaultRig:
    """A deployment in which everything works, and stays so until the test breaks it."""
    _deployment.calm()
    return _deployment
