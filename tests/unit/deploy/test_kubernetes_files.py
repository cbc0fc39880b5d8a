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
} | {
    name: document["spec"]
    for (kind, name), document in OBJECTS.items()
    if kind == "Pod"
}
OFFICER = "affidavit-officer"
KEYS = "/subjects/subjects.keys"
COMPUTE_PODS = [f"affidavit-{queue}" for queue in COMPUTE_QUEUES]
WORKERS = [f"affidavit-{queue}" for queue in (*COMPUTE_QUEUES, CONTROL_QUEUE)]


def test_every_part_of_the_house_is_there_once() -> None:
    """A worker of each queue, beat, migration and officer have one object each."""
    assert set(PODS) == {*WORKERS, "affidavit-beat", "affidavit-migrate", OFFICER}
    assert len(OBJECTS) == len(DOCUMENTS)


@pytest.mark.parametrize("name", sorted(PODS))
def test_pods_have_no_privileges(name: str) -> None:
    """No container is root, gains rights or writes to its image."""
    assert PODS[name]["securityContext"]["runAsNonRoot"] is True
    assert PODS[name]["automountServiceAccountToken"] is False
    for container in PODS[name]["containers"] + PODS[name].get("initContainers", []):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        for mount in container["volumeMounts"]:
            if mount["mountPath"] in {"/data", "/tls", "/secret"}:
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
    given = {v["name"] for v in container.get("env", []) if v["value"]}
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


def _variables(name: str) -> dict[str, str]:
    (container,) = PODS[name]["containers"]
    return {v["name"]: v["value"] for v in container.get("env", [])}


def _mounts(container: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    return {
        mount["mountPath"]: (mount["name"], mount.get("readOnly", False))
        for mount in container["volumeMounts"]
    }


@pytest.mark.parametrize("queue", COMPUTE_QUEUES)
def test_planners_get_a_private_copy_of_the_subjects_keys(queue: str) -> None:
    """The file of the Secret is copied with mode 0600, which the product insists on."""
    pod = PODS[f"affidavit-{queue}"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    (copying,) = pod["initContainers"]
    assert _mounts(copying) == {
        "/secret": ("subject-keys-secret", True),
        "/subjects": ("subject-keys", False),
    }
    assert "install -m 0600 /secret/subjects.keys /subjects/" in copying["command"][-1]
    secret = volumes["subject-keys-secret"]["secret"]
    # Optional: without subjects there are no keys, and the worker starts all the same.
    assert secret == {"secretName": "affidavit-subject-keys", "optional": True}
    assert volumes["subject-keys"]["emptyDir"]["medium"] == "Memory"
    (worker,) = pod["containers"]
    assert _mounts(worker)["/subjects"] == ("subject-keys", True)
    assert _variables(f"affidavit-{queue}")["AFFIDAVIT_KEYS_FILE"] == KEYS


def test_officers_write_keys_and_journal_and_bring_their_own_token() -> None:
    """Commands about persons have lasting files, and no token lies in the pod."""
    variables = _variables(OFFICER)
    assert variables["AFFIDAVIT_TOKEN"] == ""
    assert variables["AFFIDAVIT_KEYS_FILE"] == KEYS
    assert variables["AFFIDAVIT_ERASURE_JOURNAL"].startswith("/subjects/")
    (container,) = PODS[OFFICER]["containers"]
    assert _mounts(container)["/subjects"] == ("subject-keys", False)
    volumes = {volume["name"]: volume for volume in PODS[OFFICER]["volumes"]}
    claim = volumes["subject-keys"]["persistentVolumeClaim"]["claimName"]
    assert ("PersistentVolumeClaim", claim) in OBJECTS


@pytest.mark.parametrize("name", ["affidavit-control", OFFICER])
def test_a_restart_does_not_open_key_files_to_the_group(name: str) -> None:
    """`fsGroup` alone lets the group read each file of a volume at each start."""
    context = PODS[name]["securityContext"]
    assert context["fsGroupChangePolicy"] == "OnRootMismatch"


@pytest.mark.parametrize("name", sorted(set(PODS) - {*COMPUTE_PODS, OFFICER}))
def test_nobody_else_sees_the_subjects_keys(name: str) -> None:
    """Control worker, beat and migration have neither the Secret nor the claim."""
    assert "subject-keys" not in str(PODS[name])


def test_what_is_scaled_exists() -> None:
    """The autoscaler names a deployment of the example."""
    target = OBJECTS["HorizontalPodAutoscaler", "affidavit-cpu"]["spec"]
    reference = target["scaleTargetRef"]
    assert (reference["kind"], reference["name"]) in OBJECTS
