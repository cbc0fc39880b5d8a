# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes example keeps to the house rules."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.settings import Settings
from workers.app import COMPUTE_QUEUES, CONTROL_QUEUE, SOFT_SHUTDOWN_S
from workers.lifecycle import WITHDRAW_S

FOLDER = Path(__file__).parents[3] / "deploy/kubernetes"
DOCUMENTS: list[dict[str, Any]] = [
    document
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
OBJECTS = {(d["kind"], d["metadata"]["name"]): d for d in DOCUMENTS}
PODS: dict[str, dict[str, Any]] = {
    name: document["spec"]["template"]["spec"]
    for (kind, name), document in OBJECTS.items()
    if kind in {"Deployment", "Job"}
}
WORKERS = [f"affidavit-{queue}" for queue in (*COMPUTE_QUEUES, CONTROL_QUEUE)]


def test_every_part_of_the_house_is_there_once() -> None:
    """A worker of each queue, the beat and the migration have one object each."""
    assert set(PODS) == {*WORKERS, "affidavit-beat", "affidavit-migrate"}
    assert len(OBJECTS) == len(DOCUMENTS)


@pytest.mark.parametrize("name", sorted(PODS))
def test_pods_have_no_privileges(name: str) -> None:
    """No container is root, gains rights or writes to its image."""
    assert PODS[name]["securityContext"]["runAsNonRoot"] is True
    assert PODS[name]["automountServiceAccountToken"] is False
    (container,) = PODS[name]["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for mount in container["volumeMounts"]:
        if mount["mountPath"] in {"/data", "/tls"}:
            assert mount["readOnly"] is True


@pytest.mark.parametrize("name", sorted(PODS))
def test_secrets_come_from_the_secret_alone(name: str) -> None:
    """No file of the example holds a secret; each pod refers to the Secret."""
    (container,) = PODS[name]["containers"]
    assert {"secretRef": {"name": "affidavit"}} in container["envFrom"]
    secret = {
        f"AFFIDAVIT_{field.upper()}"
        for field, info in Settings.model_fields.items()
        if "SecretStr" in str(info.annotation)
    }
    given = {variable["name"] for variable in container.get("env", [])}
    assert not secret & (given | set(OBJECTS["ConfigMap", "affidavit"]["data"]))


@pytest.mark.parametrize("name", sorted(PODS))
def test_environment_names_only_settings_that_exist(name: str) -> None:
    """A misspelt variable would be ignored without a word."""
    known = {f"AFFIDAVIT_{field.upper()}" for field in Settings.model_fields}
    (container,) = PODS[name]["containers"]
    given = {variable["name"] for variable in container.get("env", [])}
    assert given | set(OBJECTS["ConfigMap", "affidavit"]["data"]) <= known


@pytest.mark.parametrize("name", WORKERS)
def test_kubernetes_waits_for_the_soft_shutdown(name: str) -> None:
    """A pod that is stopped can give its shard back before it is killed."""
    grace = PODS[name]["terminationGracePeriodSeconds"]
    assert grace > SOFT_SHUTDOWN_S + WITHDRAW_S


@pytest.mark.parametrize("name", WORKERS)
def test_workers_are_probed_and_take_their_own_queue(name: str) -> None:
    """A worker is named after its pod, by which its probes find it."""
    queue = name.removeprefix("affidavit-")
    (container,) = PODS[name]["containers"]
    assert f'--queue {queue} --name "{queue}-$HOSTNAME"' in container["command"][-1]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["exec"]["command"][-1] == "worker"
    port = OBJECTS["ConfigMap", "affidavit"]["data"]["AFFIDAVIT_METRICS_PORT"]
    assert container["ports"] == [{"name": "metrics", "containerPort": int(port)}]


def test_only_the_control_worker_gets_the_signing_key() -> None:
    """No other pod has the key's path or its volume, and there is one such pod."""
    with_claim = {
        name
        for name, pod in PODS.items()
        for volume in pod["volumes"]
        if volume.get("persistentVolumeClaim", {}).get("claimName")
        == "affidavit-ledger-key"
    }
    with_path = {
        name
        for name, pod in PODS.items()
        if "AFFIDAVIT_SIGNING_KEY" in str(pod["containers"])
    }
    assert with_claim == with_path == {"affidavit-control"}
    control = OBJECTS["Deployment", "affidavit-control"]["spec"]
    assert (control["replicas"], control["strategy"]) == (1, {"type": "Recreate"})


def test_what_is_scaled_exists() -> None:
    """The autoscaler names a deployment of the example."""
    target = OBJECTS["HorizontalPodAutoscaler", "affidavit-cpu"]["spec"]
    reference = target["scaleTargetRef"]
    assert (reference["kind"], reference["name"]) in OBJECTS
