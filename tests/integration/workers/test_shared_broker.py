# SPDX-License-Identifier: Apache-2.0
"""Two deployments on one Redis database: the second is told before it does harm."""

from pathlib import Path

from pydantic import SecretStr

from affidavit.doctor import examine
from pipeline.services import Services
from pipeline.settings import Settings
from tests.support.deployment import deployed
from tests.support.places import StorePlace
from tests.support.workspace import Workspace
from workers.broker_owner import require_own_broker


def test_another_deployment_on_the_same_broker_is_refused(
    broker_url: str, tmp_path: Path
) -> None:
    """Worker, submit, beat and doctor say so, with what to set, and exit 4."""
    folder = tmp_path / "second"
    Workspace(folder=folder).lay_out(1).write_spec()
    with deployed(
        folder,
        database_url=f"sqlite:///{folder / 'affidavit.db'}",
        place=StorePlace(url=str(folder / "objects"), s3=None),
        broker_url=broker_url,
    ) as second:
        settings = Settings(
            home=tmp_path,
            broker_url=SecretStr(broker_url),
            database_url=SecretStr(second.variables["AFFIDAVIT_DATABASE_URL"]),
        )
        require_own_broker(settings, "the first")
        for arguments in (("worker",), ("submit", "audit.yaml"), ("beat",)):
            answer = second.call(*arguments)
            assert answer.code == 4, arguments
            assert "AFFIDAVIT_BROKER_PREFIX" in answer.err
            assert "another database number" in answer.err
            assert "only-for-tests" not in answer.err
        services = Services(settings=settings, actor="user/tester")
        (broker,) = [each for each in examine(services) if each.part == "broker"]
        services.close()
        assert not broker.ok
        assert "AFFIDAVIT_BROKER_PREFIX" in broker.says
