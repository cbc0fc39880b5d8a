# SPDX-License-Identifier: Apache-2.0
"""Every command against every role: who may, who is refused, and what is told of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from affidavit.cli.app import app
from pipeline.access.policy import NEEDS_PURPOSE, Right, Role, denial, rights_of
from tests.support.persons import call_with
from tests.support.workspace import Workspace

#: Commands that show nothing of the installation, so that anybody may call them.
OPEN = {"plan", "inspect", "kinds", "methods", "policies", "metrics"}

#: Command (with arguments that lead nowhere) to the roles that may call it.
TABLE: dict[tuple[str, ...], str] = {
    ("run", "none.yaml"): "submitter",
    ("submit", "none.yaml"): "submitter",
    ("resume", "none"): "submitter",
    ("retry", "none"): "submitter",
    ("pause", "none"): "submitter",
    ("cancel", "none"): "submitter",
    ("calibrate", "none"): "submitter",
    ("learn", "none", "--quality", "x"): "submitter",
    ("compare", "none.yaml"): "submitter",
    ("compare", "--run", "none", "--run", "other"): "reviewer",
    ("schedule", "add", "none.yaml"): "submitter",
    ("schedule", "pause", "none"): "submitter",
    ("schedule", "resume", "none"): "submitter",
    ("schedule", "remove", "none"): "submitter",
    ("schedule", "run-now", "none"): "submitter",
    ("schedule", "run-due"): "submitter",
    ("schedule", "list"): "submitter reviewer auditor dpo admin",
    ("status",): "submitter reviewer auditor dpo admin",
    ("workers",): "submitter reviewer auditor dpo admin",
    ("items", "none"): "reviewer",
    ("show", "none", "0"): "reviewer",
    ("power", "--margin", "1", "--from", "none", "--metric", "x"): "reviewer",
    ("report", "none"): "reviewer",
    ("report", "none", "--export", "there"): "reviewer",
    ("report", "none", "--bundle", "b.zip"): "auditor",
    ("verify", "none"): "reviewer auditor dpo",
    ("reverify", "none"): "reviewer auditor",
    ("sign-off", "none", "--verdict", "accept"): "reviewer",
    ("evidence", "none", "-o", "e.zip"): "auditor",
    ("log",): "reviewer auditor dpo",
    ("log", "--export", "log.csv"): "auditor",
    ("keys", "show"): "submitter reviewer auditor dpo admin",
    ("keys", "rotate"): "admin",
    ("db", "grants", "--apply"): "admin",
    ("worker", "--queue", "none"): "admin",
    ("beat",): "admin",
    ("collect",): "admin",
    ("doctor",): "admin",
    ("init", "audit.yaml"): "admin",
    ("db", "upgrade"): "admin",
    ("principal", "add", "UPPER", "--role", "admin"): "admin",
    ("principal", "renew", "none"): "admin",
    ("principal", "list"): "admin",
    ("principal", "revoke", "none"): "admin",
    ("subject", "find"): "dpo",
    ("subject", "report", "none"): "dpo",
    ("subject", "export", "none", "--out", "there"): "dpo",
    ("subject", "hold", "none", "--reason", "litigation"): "dpo",
    ("subject", "release", "none"): "dpo",
    ("subject", "erase", "none"): "dpo",
    ("subject", "erasures"): "dpo",
    ("subject", "replay"): "dpo",
    ("subject", "rotate-keys"): "admin",
    ("retention", "list"): "dpo",
    ("retention", "set", "none", "half_year"): "dpo",
    ("purge",): "dpo",
    ("register",): "auditor dpo",
    ("dpia",): "auditor dpo",
    ("incident", "open", "--kind", "loss"): "dpo",
    ("incident", "list"): "dpo",
    ("incident", "close", "none"): "dpo",
    ("incident", "affected", "none"): "dpo",
    ("request", "list"): "submitter reviewer dpo admin",
    ("request", "approve", "none"): "submitter reviewer dpo admin",
    ("request", "refuse", "none"): "submitter reviewer dpo admin",
}


def _leaves(words: tuple[str, ...], command: Any) -> Iterator[tuple[str, ...]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield words
        return
    for word, inner in below.items():
        yield from _leaves((*words, word), inner)


@pytest.fixture(scope="module")
def peopled(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Workspace, dict[str, str]]:
    """An installation with one principal a role, and their tokens."""
    workspace = Workspace(folder=tmp_path_factory.mktemp("peopled"))
    assert workspace.call("init", "audit.yaml").code == 0
    tokens: dict[str, str] = {}
    for role in (Role.ADMIN, *(r for r in Role if r is not Role.ADMIN)):
        answer = workspace.call(
            "principal", "add", f"the-{role}", "--role", role, "--json"
        )
        assert answer.code == 0, answer.err
        tokens[role] = answer.document["token"]
        workspace.variables["AFFIDAVIT_TOKEN"] = tokens[Role.ADMIN]
    del workspace.variables["AFFIDAVIT_TOKEN"]
    return workspace, tokens


def _as(workspace: Workspace, token: str, purpose: str | None = "audit") -> Workspace:
    variables = {"AFFIDAVIT_TOKEN": token}
    if purpose is not None:
        variables["AFFIDAVIT_PURPOSE"] = purpose
    return Workspace(folder=workspace.folder, variables=variables)


def _refused(workspace: Workspace, command: tuple[str, ...]) -> bool:
    answer = call_with(workspace, "", *command, "--json")
    error = answer.document.get("error", {})
    assert error.get("exit_code", answer.code) == answer.code
    return bool(error.get("kind") == "access_refused")


def _entries(workspace: Workspace) -> list[dict[str, Any]]:
    return [json.loads(row["body"]) for row in workspace.rows("ledger_entries")]


def test_the_table_has_every_command() -> None:
    """A new command cannot be forgotten here, nor an old one linger."""
    listed = {
        leaf for leaf in _leaves((), typer.main.get_command(app)) if leaf[0] not in OPEN
    }
    tabled = {
        next(leaf for leaf in listed if row[: len(leaf)] == leaf) for row in TABLE
    }
    assert tabled == listed


@pytest.mark.parametrize("command", TABLE, ids=" ".join)
def test_a_command_is_for_its_roles_alone(
    peopled: tuple[Workspace, dict[str, str]], command: tuple[str, ...]
) -> None:
    """Each role is let through or refused as the table says; nobody else is let in."""
    workspace, tokens = peopled
    allowed = {
        role for role in Role if not _refused(_as(workspace, tokens[role]), command)
    }
    assert allowed == {Role(word) for word in TABLE[command].split()}
    assert _refused(workspace, command)


def test_the_policy_gives_no_right_to_everybody_and_each_to_somebody() -> None:
    """Every right has a role; what shows data is no administrator's."""
    assert set().union(*(rights_of([role]) for role in Role)) == set(Right)
    assert not rights_of([Role.ADMIN]) & NEEDS_PURPOSE
    assert not rights_of([Role.SUBMITTER]) & NEEDS_PURPOSE


@pytest.mark.parametrize("right", sorted(NEEDS_PURPOSE))
def test_whoever_sees_data_says_why(right: Right) -> None:
    """The same principal is refused without a purpose, and let through with one."""
    assert denial(right, roles=list(Role), scopes=None, purpose=None) is not None


def test_a_purpose_is_asked_for_and_recorded(
    peopled: tuple[Workspace, dict[str, str]],
) -> None:
    """`--purpose` and the variable both count; the refusal names the right."""
    workspace, tokens = peopled
    silent = _as(workspace, tokens[Role.REVIEWER], purpose=None)
    before = len(_entries(workspace))
    answer = silent.call("items", "none")
    assert answer.code == 2
    assert "AFFIDAVIT_PURPOSE" in answer.err
    (entry,) = _entries(workspace)[before:]
    assert (entry["action"], entry["actor"], entry["details"]) == (
        "access:refused",
        "principal/the-reviewer",
        {"right": "read_results", "reason": "purpose_missing"},
    )
    spoken = silent.call("--purpose", "audit", "items", "none", "--json")
    assert spoken.document["error"]["kind"] == "unknown_run"


def test_a_token_is_stored_as_its_digest_alone(
    peopled: tuple[Workspace, dict[str, str]],
) -> None:
    """Whoever reads the database, its log or the ledger has no token."""
    workspace, tokens = peopled
    stored = b"".join(
        path.read_bytes() for path in workspace.home.rglob("*") if path.is_file()
    )
    assert all(len(token) >= 43 for token in tokens.values())
    assert not any(token.encode() in stored for token in tokens.values())


def test_a_token_that_is_unknown_expired_or_revoked_opens_nothing(
    tmp_path: Path,
) -> None:
    """Each is refused with its own reason, and the ledger tells of each."""
    workspace = Workspace(folder=tmp_path)
    assert workspace.call("init").code == 0
    admin = workspace.call("principal", "add", "boss", "--role", "admin", "--json")
    boss = _as(workspace, admin.document["token"])
    short = boss.call(
        "principal", "add", "brief", "--role", "auditor", "--days", "1e-9", "--json"
    ).document["token"]
    left = boss.call("principal", "add", "left", "--role", "auditor", "--json")
    assert not _refused(_as(workspace, left.document["token"]), ("status",))
    assert boss.call("principal", "revoke", "left").code == 0
    for token in ("", "afd_nonsense", short, left.document["token"]):
        assert _refused(_as(workspace, token), ("status",))
    reasons = [
        entry["details"]["reason"]
        for entry in _entries(workspace)
        if entry["action"] == "access:refused"
    ]
    assert reasons == [
        *("token_missing", "token_unknown", "token_expired", "token_revoked")
    ]
    again = boss.call("principal", "renew", "brief", "--json").document["token"]
    assert not _refused(_as(workspace, again), ("status",))


def test_scopes_limit_a_token(tmp_path: Path) -> None:
    """A worker's token can keep it running, and cannot let anybody in."""
    workspace = Workspace(folder=tmp_path)
    assert workspace.call("init").code == 0
    admin = workspace.call("principal", "add", "boss", "--role", "admin", "--json")
    boss = _as(workspace, admin.document["token"])
    made = boss.call(
        *("principal", "add", "machine", "--role", "admin", "--scope", "operate"),
        "--json",
    )
    machine = _as(workspace, made.document["token"])
    assert not _refused(machine, ("collect",))
    assert _refused(machine, ("principal", "list"))
    assert _refused(machine, ("status",))


def test_somebody_can_always_let_others_in(tmp_path: Path) -> None:
    """The first principal is an administrator, and the last one stays."""
    workspace = Workspace(folder=tmp_path)
    assert workspace.call("init").code == 0
    first = workspace.call("principal", "add", "eve", "--role", "reviewer", "--json")
    assert (first.code, first.document["error"]["kind"]) == (2, "state_conflict")
    admin = workspace.call("principal", "add", "boss", "--role", "admin", "--json")
    boss = _as(workspace, admin.document["token"])
    last = boss.call("principal", "revoke", "boss", "--json")
    assert (last.code, last.document["error"]["kind"]) == (2, "state_conflict")
    taken = boss.call("principal", "add", "boss", "--role", "dpo", "--json")
    assert (taken.code, taken.document["error"]["kind"]) == (2, "state_conflict")
    assert boss.call("principal", "list", "--json").document["principals"]


def test_without_principals_there_is_one_operator(tmp_path: Path) -> None:
    """Nothing is refused, no purpose is asked for, and `doctor` says so."""
    workspace = Workspace(folder=tmp_path)
    assert workspace.call("init").code == 0
    assert not _refused(workspace, ("items", "none"))
    checks = workspace.call("doctor", "--json").document["checks"]
    (access,) = [check for check in checks if check["part"] == "access"]
    assert access["ok"]
    assert "no principals" in access["says"]


def test_nobody_signs_off_a_run_of_their_own(tmp_path: Path) -> None:
    """A reviewer who also submits is refused; another one signs, and is named."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(2)
    assert workspace.call("init").code == 0
    boss = workspace.call("principal", "add", "boss", "--role", "admin", "--json")
    admin = _as(workspace, boss.document["token"])
    people = {}
    for name, roles in (("sue", ("submitter", "reviewer")), ("rex", ("reviewer",))):
        flags = [word for role in roles for word in ("--role", role)]
        made = admin.call("principal", "add", name, *flags, "--json").document
        people[name] = _as(workspace, made["token"])
    people["sue"].run(workspace.write_spec())
    accept = ("sign-off", "latest", "--verdict", "accept", "--json")
    own = people["sue"].call(*accept)
    assert own.document["error"]["kind"] == "access_refused"
    assert "a run that they made" in own.err
    assert people["rex"].call(*accept).document["signed_by"] == "principal/rex"
    (signed,) = [e for e in _entries(workspace) if e["action"] == "report:signed"]
    assert signed["actor"] == "principal/rex"
    again = people["rex"].call("reverify", "latest", "--fraction", "1", "--json")
    assert again.document["verdict"] == "agrees", again.err


def test_a_changed_threshold_needs_a_second_principal(tmp_path: Path) -> None:
    """The submitter's change waits for a reviewer's word, which counts once."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(2)
    workspace.run(workspace.write_spec())
    people: dict[str, Workspace] = {}
    token = ""
    for name, roles in (
        ("boss", ["admin"]),
        ("sue", ["submitter", "reviewer"]),
        ("rex", ["reviewer"]),
    ):
        caller = _as(workspace, token) if token else workspace
        flags = [word for role in roles for word in ("--role", role)]
        made = caller.call("principal", "add", name, *flags, "--json").document
        people[name] = _as(workspace, made["token"])
        token = token or made["token"]
    same = people["sue"].call("run", workspace.write_spec(), "--json")
    assert same.code == 0, same.err
    changed = workspace.write_spec(threshold={"policy": "fixed", "keep": 0.3})
    first = people["sue"].call("run", changed, "--json")
    assert (first.code, first.document["error"]["kind"]) == (2, "access_refused")
    (request,) = people["rex"].call("request", "list", "--json").document["requests"]
    assert (request["kind"], request["state"]) == ("threshold", "waiting")
    own = people["sue"].call("request", "approve", request["request"])
    assert own.code == 2
    assert "second principal" in own.err
    assert people["rex"].call("request", "approve", request["request"]).code == 0
    assert people["sue"].call("run", changed, "--json").code == 0
    assert len(workspace.rows("runs")) == 3
    people["rex"].call("report", "latest", "--out", "out")
    history = json.loads((workspace.folder / "out" / "report.json").read_text())
    (_first, second) = history["model_record"]["thresholds"]
    assert second["approval"]["approved_by"] == "principal/rex"
    assert second["approval"]["requested_by"] == "principal/sue"
    assert second["parameters"]["keep"] == 0.3
    back = people["sue"].call("run", workspace.write_spec(), "--json")
    assert back.document["error"]["kind"] == "access_refused"
    actions = [entry["action"] for entry in _entries(workspace)]
    assert [a for a in actions if a.startswith("request:")] == [
        "request:made",
        "request:approved",
        "request:used",
        "request:made",
    ]
