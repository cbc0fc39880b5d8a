# SPDX-License-Identifier: Apache-2.0
"""The Dockerfile, the compose file and its example settings keep to the house rules."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.list_requirements import requirements
from pipeline.settings import Settings
from workers.app import SOFT_SHUTDOWN_S
from workers.lifecycle import WITHDRAW_S

CHECKOUT = Path(__file__).parents[3]
COMPOSE_TEXT = (CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WORKERS = {"control-worker", "cpu-worker", "more-cpu-workers", "gpu-worker"}
OURS = WORKERS | {"migrate", "beat", "cli"}
SERVERS = {"postgres", "redis", "s3"}
MONITORS = {"prometheus", "grafana"}
ONE_SHOT = {"migrate", "cli"}
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")


def _example() -> dict[str, str]:
    lines = (CHECKOUT / ".env.example").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if re.match(r"[A-Z]", line))
    return {name: value for name, _, value in pairs}


def _package_folders() -> list[str]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    include = project["tool"]["setuptools"]["packages"]["find"]["include"]
    return [pattern.rstrip("*") for pattern in include]


def test_every_part_of_the_house_is_a_service() -> None:
    """The servers, the migration, each worker, beat and the monitors are there."""
    assert set(SERVICES) == OURS | SERVERS | MONITORS


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT))
def test_every_lasting_service_has_a_health_check(name: str) -> None:
    """A service that stays up says whether it is well."""
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_services_wait_for_what_they_need(name: str) -> None:
    """Whoever depends on a server waits for its health, or for the migration's end."""
    for other, how in SERVICES[name].get("depends_on", {}).items():
        wanted = "service_healthy"
        if other in ONE_SHOT:
            wanted = "service_completed_successfully"
        assert how == {"condition": wanted}


@pytest.mark.parametrize("name", sorted(OURS - ONE_SHOT))
def test_our_services_wait_for_the_migration(name: str) -> None:
    """No worker meets a database without tables."""
    assert "migrate" in SERVICES[name]["depends_on"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    """No server can be reached from the network."""
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", sorted(set(SERVICES) - OURS))
def test_images_of_servers_are_pinned(name: str) -> None:
    """A server's image names its version."""
    assert re.fullmatch(r"[a-z/]+:v?\d[\w.-]*", SERVICES[name]["image"])


def test_only_the_control_worker_gets_the_signing_key() -> None:
    """No other container has the key's path or its volume."""
    with_path = {
        name
        for name, service in SERVICES.items()
        if "AFFIDAVIT_SIGNING_KEY" in service.get("environment", {})
    }
    with_volume = {
        name
        for name, service in SERVICES.items()
        if any("ledger-key" in volume for volume in service.get("volumes", []))
    }
    assert with_path == with_volume == {"control-worker"}


def test_subjects_keys_are_where_runs_are_planned_and_nowhere_else() -> None:
    """Planners read the keys; people's commands and the migration write them."""
    planners = WORKERS - {"control-worker"}
    writers = {"cli", "migrate"}
    mounted = {
        name: volume
        for name, service in SERVICES.items()
        for volume in service.get("volumes", [])
        if volume.startswith("subject-keys:")
    }
    assert mounted == dict.fromkeys(planners, "subject-keys:/subjects:ro") | (
        dict.fromkeys(writers, "subject-keys:/subjects")
    )
    for name in OURS:
        told = SERVICES[name]["environment"].get("AFFIDAVIT_KEYS_FILE")
        assert told == ("/subjects/subjects.keys" if name in mounted else None)
    assert "subject-keys" in COMPOSE["volumes"]
    # A volume takes the owner of its folder in the image.
    assert re.search(r"install -d -o affidavit .* -m 0700 .*/subjects", DOCKERFILE)


def test_erasures_outlive_the_container_that_does_them() -> None:
    """The journal is in a volume: the home of a container is gone with it."""
    cli = SERVICES["cli"]
    journal = cli["environment"]["AFFIDAVIT_ERASURE_JOURNAL"]
    assert journal.startswith("/subjects/")
    assert "subject-keys:/subjects" in cli["volumes"]


def test_services_have_the_workers_token_and_people_their_own() -> None:
    """The token comes from .env, empty where there is none, and never to the CLI."""
    for name in OURS - {"cli"}:
        given = SERVICES[name]["environment"]["AFFIDAVIT_TOKEN"]
        assert given == "${AFFIDAVIT_WORKER_TOKEN:-}"
    assert SERVICES["cli"]["environment"]["AFFIDAVIT_TOKEN"] == ""
    assert _example()["AFFIDAVIT_WORKER_TOKEN"] == ""


@pytest.mark.parametrize("name", sorted(OURS))
def test_inputs_are_read_only(name: str) -> None:
    """No container can change what it audits."""
    for volume in SERVICES[name].get("volumes", []):
        if ":/data" in volume:
            assert volume.endswith(":/data:ro")


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_have_no_privileges(name: str) -> None:
    """A container cannot write to its image nor gain rights."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_gpu_worker_is_behind_its_profile() -> None:
    """A machine without a GPU starts everything else."""
    assert SERVICES["gpu-worker"]["profiles"] == ["gpu"]
    assert "profiles" not in SERVICES["cpu-worker"]


def test_more_workers_are_the_one_worker_again() -> None:
    """The profile `many` adds replicas that differ from the one worker in nothing."""
    more = dict(SERVICES["more-cpu-workers"])
    assert more.pop("profiles") == ["many"]
    assert more.pop("deploy") == {"replicas": "${CPU_WORKERS:-3}"}
    assert more == SERVICES["cpu-worker"]


@pytest.mark.parametrize("name", sorted(MONITORS))
def test_monitors_are_behind_their_profile_and_change_nothing(name: str) -> None:
    """Nobody runs a monitor without asking for it, and its files are read-only."""
    assert SERVICES[name]["profiles"] == ["monitoring"]
    for volume in SERVICES[name]["volumes"]:
        if volume.startswith("./"):
            assert volume.endswith(":ro")
            assert (CHECKOUT / volume.split(":")[0]).is_file()


def test_nobody_can_sign_in_to_the_example_grafana() -> None:
    """There is no default account, so no default password."""
    given = SERVICES["grafana"]["environment"]
    assert given["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert given["GF_AUTH_BASIC_ENABLED"] == "false"
    assert given["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_compose_waits_for_the_soft_shutdown(name: str) -> None:
    """A worker that is stopped can give its shard back before it is killed."""
    grace = SERVICES[name]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > SOFT_SHUTDOWN_S + WITHDRAW_S


def test_redis_keeps_its_queue_and_wants_a_password() -> None:
    """Redis logs every write, evicts nothing and lets no stranger in."""
    command = SERVICES["redis"]["command"]
    settings = dict(zip(command[1::2], command[2::2], strict=True))
    assert settings["--appendonly"] == "yes"
    assert settings["--appendfsync"] == "everysec"
    assert settings["--maxmemory-policy"] == "noeviction"
    assert "REDIS_PASSWORD" in settings["--requirepass"]


def test_environment_names_only_settings_that_exist() -> None:
    """A misspelt variable would be ignored without a word."""
    known = {f"AFFIDAVIT_{name.upper()}" for name in Settings.model_fields}
    for name in OURS:
        given = {key for key in SERVICES[name]["environment"] if "AFFIDAVIT" in key}
        assert given <= known


def test_example_settings_are_those_of_the_compose_file() -> None:
    """`.env.example` lists each variable that compose reads, and no other."""
    read = set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", COMPOSE_TEXT))
    assert set(_example()) - {"COMPOSE_PROJECT_NAME"} == read


def test_defaults_of_the_compose_file_are_those_of_the_example() -> None:
    """What is said to be the default is the default."""
    example = _example()
    for name, default in re.findall(r"\$\{([A-Z0-9_]+):-([^}]*)\}", COMPOSE_TEXT):
        if name != "AFFIDAVIT_LEDGER_ORIGIN":  # one's own name has no default
            assert example[name] == default


def test_secrets_have_no_default_and_are_obviously_fake() -> None:
    """Compose refuses to start without secrets, and the examples deceive nobody."""
    secrets = {
        name: value
        for name, value in _example().items()
        if re.search("PASSWORD|ACCESS_KEY", name)
    }
    assert len(secrets) == 4
    for name, value in secrets.items():
        assert value.startswith("change-me-fake")
        assert f"${{{name}:-" not in COMPOSE_TEXT
        assert f"${{{name}:?" in COMPOSE_TEXT
        assert f"${{{name}}}" not in COMPOSE_TEXT


def test_image_runs_as_an_ordinary_user() -> None:
    """The last user of the image is not root."""
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]


def test_image_holds_every_package_and_nothing_unnamed() -> None:
    """Each package is copied, and what may be copied is listed by name."""
    allowed = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in allowed
    for folder in _package_folders():
        assert f"COPY {folder} {folder}" in DOCKERFILE
        assert f"!{folder}" in allowed
    assert not [line for line in allowed if line.startswith("!.")]


def test_requirements_of_the_image_are_the_projects() -> None:
    """The list has the project's requirements and those of the extras asked for."""
    text = (
        "[project]\ndependencies = ['a>=1']\n"
        "[project.optional-dependencies]\nx = ['b']\ny = ['c']\n"
    )
    assert requirements(text, []) == ["a>=1"]
    assert requirements(text, ["y"]) == ["a>=1", "c"]
    with pytest.raises(SystemExit, match="no extra 'z', only x, y"):
        requirements(text, ["z"])
