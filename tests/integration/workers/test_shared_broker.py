# SPDX-License-Identifier: Apache-2.0
"""Two deployments on one Redis database: the second is told before it does harm."""

from pathlib import Path

from tests.support.deployment import deployed
from tests.support.places import StorePlace
from tests.support.workspace import Workspace


def test_another_deployment_on_the_same_broker_is_refused(
    broker_url: str, tmp_path: Path
) -> None:
    """Worker, submit, beat and doctor exit 4; the sentence says what to set."""
    places = [tmp_path / "first", tmp_path / "second"]
    for folder in places:
        Workspace(folder=folder).lay_out(1).write_spec()
    first, second = (
        deployed(
            folder,
            database_url=f"sqlite:///{folder / 'affidavit.db'}",
            place=StorePlace(url=str(folder / "objects"), s3=None),
            broker_url=broker_url,
        )
        for folder in places
    )
    with first as ours, second as theirs:
        submitted = ours.call("submit", "audit.yaml")
        assert submitted.code == 0, submitted.err
        for arguments in (("worker",), ("submit", "audit.yaml"), ("beat",)):
            answer = theirs.call(*arguments)
            assert answer.code == 4, arguments
            assert "AFFIDAVIT_BROKER_PREFIX" in answer.err
            assert "another database number" in answer.err
            assert "only-for-tests" not in answer.err
        doctor = theirs.call("doctor", "--json")
        assert doctor.code == 4
        (broker,) = [c for c in doctor.document["checks"] if c["part"] == "broker"]
        assert "AFFIDAVIT_BROKER_PREFIX" in broker["says"]
        theirs.variables["AFFIDAVIT_BROKER_PREFIX"] = "theirs:"
        submitted = theirs.call("submit", "audit.yaml")
        assert submitted.code == 0, submitted.err
