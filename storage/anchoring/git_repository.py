# SPDX-License-Identifier: Apache-2.0
"""Anchors as lines of a file in a git repository on somebody else's server.

Each is a commit that is pushed and never forced, so that whoever has fetched the branch
notices when one is missing. Set `receive.denyNonFastForwards` and `receive.denyDeletes`
where the repository lies, or protect the branch. What counts is the note's signature;
the hashes of the commits are not relied on.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ledger.anchors import parse_lines
from ledger.checkpoint import read_unverified
from ledger.errors import FormatError
from storage.anchoring.places import MOST_READ, anchor_line, holds_already
from storage.objects.errors import StoreRefusedError, StoreUnavailableError

BRANCH: Final = "anchors"
FILE: Final = "anchors.jsonl"
#: Others push too; each time what they pushed is taken first.
_PUSHES: Final = 3
_TIMEOUT_S: Final = 60.0
#: What a repository around us, or a hook's caller, would make git believe.
_MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")
#: `git ls-remote --exit-code` says so of a branch that is not there.
_NO_BRANCH: Final = 2


class GitRepository:
    """An `AnchorPlace` in the branch `anchors` of one repository."""

    def __init__(self, address: str) -> None:
        """Nothing is contacted yet.

        Args:
            address: Of the repository, as git takes it: `file://`, `ssh://` or
                `https://`; keys and passwords are git's own matter.
        """
        self._address = address

    @property
    def name(self) -> str:
        """See `AnchorPlace.name`."""
        return f"git+{self._address}"

    def keep(self, note: str) -> None:
        """See `AnchorPlace.keep`."""
        for _ in range(_PUSHES):
            with TemporaryDirectory(prefix="affidavit-anchor-") as name:
                if self._is_kept(Path(name), note):
                    return
        raise StoreUnavailableError(
            f"the anchor {self.name} takes no push now, others are faster; or its "
            "server refuses the branch 'anchors'"
        )

    def _is_kept(self, folder: Path, note: str) -> bool:
        """Return whether the repository holds the note, after at most one push."""
        kept = self._fetch(folder)
        if holds_already(kept, note, self.name):
            return True
        with (folder / FILE).open("a", encoding="utf-8") as file:
            file.write(anchor_line(note))
        size = read_unverified(note).size
        self._git(folder, "add", FILE)
        self._git(folder, "commit", "-q", "-m", f"checkpoint of {size} entries")
        target = f"HEAD:refs/heads/{BRANCH}"
        pushed = self._run(folder, "push", "-q", "origin", target)
        return pushed.returncode == 0

    def notes(self) -> Iterator[str]:
        """See `AnchorPlace.notes`."""
        with TemporaryDirectory(prefix="affidavit-anchor-") as name:
            kept = self._fetch(Path(name))
        yield from kept[-MOST_READ:]

    def _fetch(self, folder: Path) -> list[str]:
        """Return the notes of the branch, which is checked out; none if it is new."""
        self._git(folder, "init", "-q")
        self._git(folder, "remote", "add", "origin", self._address)
        branch = f"refs/heads/{BRANCH}"
        found = self._run(folder, "ls-remote", "--exit-code", "origin", branch)
        if found.returncode == _NO_BRANCH:
            return []
        if found.returncode:
            raise self._unavailable(found)
        self._git(folder, "fetch", "-q", "--depth", "1", "origin", branch)
        self._git(folder, "checkout", "-q", "-B", BRANCH, "FETCH_HEAD")
        try:
            return parse_lines((folder / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError, FormatError) as exc:
            raise StoreRefusedError(
                f"the anchor {self.name} holds something that is no checkpoint in "
                f"{FILE} of its branch '{BRANCH}'"
            ) from exc

    def _git(self, folder: Path, *arguments: str) -> None:
        done = self._run(folder, *arguments)
        if done.returncode:
            raise self._unavailable(done)

    def _unavailable(
        self, done: subprocess.CompletedProcess[str]
    ) -> StoreUnavailableError:
        said = done.stderr.strip().splitlines()
        return StoreUnavailableError(
            f"git cannot use the anchor {self.name} "
            f"({said[-1][:200] if said else f'exit {done.returncode}'})"
        )

    def _run(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        variables = {k: v for k, v in os.environ.items() if k not in _MISLEADING}
        # Nobody is there to type a password, nor to read another language.
        variables |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        settings = {
            "user.name": "affidavit",
            "user.email": "anchor@affidavit.invalid",
            "commit.gpgSign": "false",
            "core.hooksPath": os.devnull,
            "core.autocrlf": "false",
            "core.symlinks": "false",
        }
        options = [part for k, v in settings.items() for part in ("-c", f"{k}={v}")]
        try:
            return subprocess.run(
                ["git", *options, *arguments],
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError as exc:
            raise StoreRefusedError(
                f"the anchor {self.name} needs git, which is not installed here"
            ) from exc
        except subprocess.TimeoutExpired as exc:
            raise StoreUnavailableError(
                f"the anchor {self.name} did not answer git within {_TIMEOUT_S:.0f} s"
            ) from exc
