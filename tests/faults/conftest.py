# SPDX-License-Identifier: Apache-2.0
"""One deployment for the tests of a module, calmed before each."""

from collections.abc import Iterator

import pytest

from tests.support.fault_rig import ROUNDS, FaultRig, fault_rig


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every fault is done as often as is asked for, each time on a run of its own."""
    if ROUNDS > 1 and "rig" in metafunc.fixturenames:
        metafunc.fixturenames.append("fault_round")
        metafunc.parametrize("fault_round", range(ROUNDS))


@pytest.fixture(scope="module")
def _deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultRig]:
    with fault_rig(tmp_path_factory.mktemp("faults")) as rig:
        yield rig


@pytest.fixture
def rig(_deployment: FaultRig) -> FaultRig:
    """A deployment in which everything works, and stays so until the test breaks it."""
    _deployment.calm()
    return _deployment
