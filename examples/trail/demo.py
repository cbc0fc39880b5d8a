# SPDX-License-Identifier: Apache-2.0
"""An audit trail from end to end: evidence for a stranger, and a person forgotten.

    python examples/trail/demo.py demo-trail/

Audits real photographs of invented persons, hands evidence to a stranger who has only
`cryptography`, erases one person with the word of two officers, and verifies again.
Each step says what it proved; the first that proves nothing ends with code 1.
"""

import argparse
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

from installation import PERSONS, DemonstrationError, Installation
from stranger import Stranger

#: What the standalone verifier answers where an artifact is another.
ALTERED = 14
FORGOTTEN = PERSONS[0]


def demonstrate(folder: Path, *, from_index: bool) -> None:
    """Every step has proved what it says.

    Args:
        folder: Where to work; made new.
        from_index: Whether pip fetches the stranger's one package.

    Raises:
        DemonstrationError: a step did not.
    """
    here = Installation(folder=folder)
    photographs = here.lay_out()
    vkey = _open_access(here)
    run = _audit(here, photographs)
    stranger = _hand_over(here, vkey, from_index=from_index)
    before = _verify_evidence(stranger)
    token = _erase(here, stranger)
    _verify_again(here, stranger, run, before)
    _nothing_left(here, token)


def _open_access(here: Installation) -> str:
    """Return the public key, which a stranger is given by another way."""
    _step("Principals, each with a role")
    made = here.must("init", here.folder / "commented.yaml")
    here.let_in()
    _require(here.call("status").refused, "somebody without a token was let in")
    _proved("whoever has no token is refused")
    tried = here.call("log", who="sub")
    _require(tried.refused, "a submitter read the ledger")
    _proved("a submitter may not read the ledger: each role has its rights alone")
    return str(made["vkey"])


def _audit(here: Installation, photographs: int) -> dict[str, Any]:
    _step(f"An audit of {photographs} photographs of {len(PERSONS)} invented persons")
    run = here.must("run", "audit.yaml", who="sub")
    _require(run["state"] == "done", "the run did not end well")
    _proved(f"every photograph is explained; result digest {run['result_digest']}")
    found = here.files_with(FORGOTTEN)
    _require(not found, f"a name can be read in {found}")
    _proved("no name can be read in database, objects or keys: tokens stand for them")
    return run


def _hand_over(here: Installation, vkey: str, *, from_index: bool) -> Stranger:
    _step("Evidence for a stranger, in an environment of its own")
    stranger = Stranger(here.folder / "stranger", from_index=from_index)
    (stranger.folder / "ledger.vkey").write_text(vkey + "\n", encoding="utf-8")
    place = stranger.folder
    here.must("evidence", "--verifier", "-o", place / "verify.pyz", who="eva")
    here.must("evidence", "latest", "-o", place / "before.zip", who="eva")
    item = here.must(
        "evidence", "latest", "--item", 1, "-o", place / "item.zip", who="eva"
    )
    packages = stranger.packages()
    _require("affidavit" not in packages, "the stranger has the product installed")
    _require("cryptography" in packages, "the stranger lacks cryptography")
    _proved(f"the stranger has {', '.join(packages)} and no network")
    _proved(f"the evidence of one item alone has {item['bytes']:,} bytes")
    return stranger


def _verify_evidence(stranger: Stranger) -> dict[str, Any]:
    """Return the verdict on the run's evidence before anybody was forgotten."""
    _step("The stranger verifies, offline")
    verdict = _holds(stranger, "before.zip")
    _proved(
        f"{verdict['entries']} ledger entries and {verdict['artifacts']} artifacts "
        "hold under the key that the stranger was given"
    )
    one = _holds(stranger, "item.zip")
    _proved(
        f"item {one['item']['index']} holds without any other being shown: "
        f"{one['item']['status']}, score {one['item'].get('score')}"
    )
    flipped = _with_a_flipped_byte(stranger.folder / "before.zip")
    code, _ = stranger.verify(flipped)
    _require(code == ALTERED, f"a flipped byte was answered with {code}")
    _proved(f"one flipped byte of one artifact is found (exit {code})")
    return verdict


def _erase(here: Installation, stranger: Stranger) -> str:
    """Return the token of the person who is forgotten."""
    _step(f"'{FORGOTTEN}' asks to be forgotten")
    found = here.must("subject", "find", who="una", said=FORGOTTEN + "\n")
    token = str(found["subject"])
    ask = ("subject", "erase", token, "--identity-verified")
    _require(here.call(*ask, who="una").refused, "one officer alone erased a person")
    listed = here.must("request", "list", who="duo")["requests"]
    request = next(r["request"] for r in listed if r["kind"] == "erasure")
    own = here.call("request", "approve", request, who="una")
    _require(own.refused, "an officer approved what that officer had asked for")
    _proved("one officer alone erases nobody, and cannot approve the own request")
    here.must("request", "approve", request, who="duo")
    erased = here.must(*ask, who="una")
    _require(erased["state"] == "certified", f"the erasure is {erased['state']}")
    counts = erased["counts"]
    _proved(
        f"with the word of another, {counts['items']} items in {counts['shards']} "
        f"shards were erased and {counts['objects']} objects replaced"
    )
    lines = stranger.opened_certificate(erased["certificate"])
    _require(lines[-1] == "found afterwards 0", "the certificate tells of leftovers")
    _proved(f"the certificate is signed by the ledger's key: '{lines[-1]}'")
    return token


def _verify_again(
    here: Installation, stranger: Stranger, run: dict[str, Any], before: dict[str, Any]
) -> None:
    _step("Verified again, inside and outside")
    inside = here.must("verify", "latest", who="eva")
    _require(inside["ok"], "the installation's own evidence does not hold")
    _proved(f"the installation's {inside['entries']} entries and its rows hold")
    _holds(stranger, "before.zip")
    _proved("the evidence from before still holds: nothing that was recorded changed")
    kept = stranger.folder / "checkpoint.txt"
    with zipfile.ZipFile(stranger.folder / "before.zip") as archive:
        kept.write_bytes(archive.read("checkpoint.txt"))
    here.must(
        *("evidence", "latest", "-o", stranger.folder / "after.zip", "--since", kept),
        who="eva",
    )
    after = _holds(
        stranger, "after.zip", "--checkpoint", kept, "--anchor", here.anchors
    )
    _require(
        after["result_digest"] == before["result_digest"] == run["result_digest"],
        "the result is another one than before the erasure",
    )
    _proved(
        "the new evidence holds, goes on from the checkpoint that the stranger kept, "
        "and has the same result"
    )
    _proved(f"the first {after['anchored']} entries are anchored outside")


def _nothing_left(here: Installation, token: str) -> None:
    _step("What is left of the person")
    answer = here.call("subject", "find", who="una", said=FORGOTTEN + "\n")
    _require(answer.code == 2 and not answer.refused, "the person is still known")
    _proved("nobody of that name is known")
    left = [path for path in here.files_with(token) if "objects" in path.parts]
    _require(not left, f"the token is still in {left}")
    _proved(
        "no artifact and no report holds the token; the ledger does, and says no more"
    )


def _holds(stranger: Stranger, name: str, *more: object) -> dict[str, Any]:
    code, verdict = stranger.verify(stranger.folder / name, *more)
    _require(
        code == 0 and verdict["ok"], f"{name} does not hold: {verdict['failures']}"
    )
    _require(verdict["key_pinned"], f"{name} was not checked against the given key")
    return verdict


def _with_a_flipped_byte(bundle: Path) -> Path:
    """Return a copy in which one byte of one artifact is another."""
    flipped = bundle.with_name("flipped.zip")
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(flipped, "w") as target:
        first = min(n for n in source.namelist() if n.startswith("artifacts/"))
        for name in source.namelist():
            data = bytearray(source.read(name))
            if name == first:
                data[len(data) // 2] ^= 1
            target.writestr(name, bytes(data))
    return flipped


def _step(text: str) -> None:
    print(f"\n{text}", flush=True)


def _proved(text: str) -> None:
    print(f"  proved: {text}", flush=True)


def _require(condition: object, otherwise: str) -> None:
    if not condition:
        raise DemonstrationError(f"Not proved: {otherwise}.")


def main(arguments: list[str] | None = None) -> int:
    """Demonstrate in the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Show the audit trail at work.")
    parser.add_argument("folder", type=Path, help="folder to work in; made new")
    parser.add_argument(
        "--copy",
        action="store_true",
        help="copy the installed cryptography instead of fetching it with pip",
    )
    options = parser.parse_args(arguments)
    folder = options.folder.absolute()
    if (folder / "stranger").is_dir():
        shutil.rmtree(folder)  # an earlier demonstration
    if folder.exists() and any(folder.iterdir()):
        print(f"{folder} holds other things; name another folder.", file=sys.stderr)
        return 2
    try:
        demonstrate(folder, from_index=not options.copy)
    except DemonstrationError as exc:
        print(exc, file=sys.stderr)
        return 1
    print(f"\nAll of it is in {folder}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
