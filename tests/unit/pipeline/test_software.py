# SPDX-License-Identifier: Apache-2.0
"""Which differences of software keep a worker from a run."""

import pytest

from pipeline.software import (
    OtherSoftwareError,
    other_software,
    require_same_software,
    software_versions,
)

PLANNED = {"affidavit": "0.2.1", "torch": "2.15.0", "torchvision": "0.30.0"}


@pytest.mark.parametrize(
    "here",
    [
        {},
        {"affidavit": "0.2.2"},
        {"torch": "2.15.0+cu130"},
        {"torch": "2.15.0+cpu", "torchvision": "0.30.0+cpu"},
        {"numpy": "1.0", "pillow": "1.0", "python": "3.99"},
    ],
)
def test_software_that_gives_the_same_numbers_will_do(here: dict[str, str]) -> None:
    """A newer patch release and another build are no reason to refuse."""
    assert other_software(PLANNED, PLANNED | here) is None
    require_same_software(PLANNED, PLANNED | here)


@pytest.mark.parametrize(
    ("here", "has", "needs"),
    [
        ({"affidavit": "0.2.0"}, "affidavit 0.2.0", "affidavit 0.2.1"),
        ({"affidavit": "0.1.9"}, "affidavit 0.1.9", "affidavit 0.2.1"),
        ({"affidavit": "0.3.0"}, "affidavit 0.3.0", "affidavit 0.2.1"),
        ({"affidavit": "1.2.1"}, "affidavit 1.2.1", "affidavit 0.2.1"),
        ({"affidavit": "0.2.1.dev1"}, "affidavit 0.2.1.dev1", "affidavit 0.2.1"),
        ({"torch": "2.14.0"}, "torch 2.14.0", "torch 2.15.0"),
        ({"torch": "2.15.1+cpu"}, "torch 2.15.1+cpu", "torch 2.15.0"),
        ({"torchvision": "0.29.0"}, "torchvision 0.29.0", "torchvision 0.30.0"),
        ({"affidavit": "a checkout"}, "affidavit a checkout", "affidavit 0.2.1"),
    ],
)
def test_other_software_is_refused_with_both_versions(
    here: dict[str, str], has: str, needs: str
) -> None:
    """An older affidavit, another minor one, and any other torch or torchvision."""
    assert other_software(PLANNED, PLANNED | here) == (has, needs)
    with pytest.raises(OtherSoftwareError) as caught:
        require_same_software(PLANNED, PLANNED | here)
    assert f"has {has}, the run was planned with {needs}" in str(caught.value)


def test_a_run_of_before_the_versions_were_noted_is_taken() -> None:
    """What a plan does not tell is not held against a worker."""
    assert other_software({}, software_versions()) is None
    assert set(PLANNED) <= set(software_versions())
