# SPDX-License-Identifier: Apache-2.0
"""The installation under demonstration: its commands, called by one principal each."""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: Photographs are given to persons in turn, so that everybody has at least two.
PERSONS = ("Invented Person 1", "Invented Person 2", "Invented Person 3")
#: What each principal is here for; the dpo that asks is not the one that agrees.
ROLES = {
    "boss": "admin",
    "sub": "submitter",
    "eva": "auditor",
    "una": "dpo",
    "duo": "dpo",
}


class DemonstrationError(Exception):
    """A step did not prove what it should; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command said.

    Attributes:
        code: Its exit code.
        document: What it printed with `--json`.
        text: Standard output and error, for the message when it should not be so.
    """

    code: int
    document: dict[str, Any]
    text: str

    @property
    def refused(self) -> bool:
        """Whether the principal may not do this, or not yet."""
        error = self.document.get("error", {})
        return self.code == 2 and error.get("kind") == "access_refused"


@dataclass(kw_only=True)
class Installation:
    """A home, a place out of its reach for anchors, and its principals' tokens."""

    folder: Path
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Database, objects and keys."""
        return self.folder / "home"

    @property
    def anchors(self) -> Path:
        """Stands for a place that the installation's owner cannot change."""
        return self.folder / "outside" / "anchors.jsonl"

    def call(
        self, *arguments: object, who: str | None = None, said: str = ""
    ) -> Answer:
        """Return what a command answers.

        Args:
            arguments: The command and its arguments; `--json` is added.
            who: The principal at work; None for nobody.
            said: What the command reads on standard input.
        """
        variables = {k: v for k, v in os.environ.items() if k[:10] != "AFFIDAVIT_"}
        variables |= {
            "AFFIDAVIT_HOME": str(self.home),
            "AFFIDAVIT_ANCHORS": f"file://{self.anchors}",
            # At once and not once an hour: a demonstration has no hour.
            "AFFIDAVIT_ANCHOR_INTERVAL_S": "0.001",
        }
        if who is not None:
            variables["AFFIDAVIT_TOKEN"] = self.tokens[who]
            purpose = "subject_request" if ROLES[who] == "dpo" else "audit"
            variables["AFFIDAVIT_PURPOSE"] = purpose
        done = subprocess.run(
            [sys.executable, "-m", "affidavit", *map(str, arguments), "--json"],
            input=said,
            env=variables,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            document = json.loads(done.stdout)
        except ValueError:
            document = {}
        return Answer(
            code=done.returncode, document=document, text=done.stdout + done.stderr
        )

    def must(
        self, *arguments: object, who: str | None = None, said: str = ""
    ) -> dict[str, Any]:
        """Return the document of a command that does its work.

        Raises:
            DemonstrationError: it did not.
        """
        answer = self.call(*arguments, who=who, said=said)
        if answer.code != 0:
            words = " ".join(map(str, arguments))
            raise DemonstrationError(
                f"'affidavit {words}' ended with {answer.code}:\n{answer.text}"
            )
        return answer.document

    def lay_out(self) -> int:
        """Return how many photographs are there, each of an invented person.

        Raises:
            DemonstrationError: they are not installed.
        """
        self.anchors.parent.mkdir(parents=True)
        prepare = HERE.parent / "photos" / "prepare.py"
        done = subprocess.run(
            [sys.executable, str(prepare), str(self.folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DemonstrationError(done.stderr.strip())
        with (self.folder / "photos.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        with (self.folder / "persons.csv").open(
            "w", encoding="utf-8", newline=""
        ) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["path", "label", "person"])
            for number, row in enumerate(rows):
                person = PERSONS[number % len(PERSONS)]
                writer.writerow([row["path"], row["label"], person])
        shutil.copyfile(HERE / "audit.yaml", self.folder / "audit.yaml")
        return len(rows)

    def let_in(self) -> None:
        """Every principal has its token; the first one lets the others in."""
        for name, role in ROLES.items():
            caller = "boss" if self.tokens else None
            made = self.must("principal", "add", name, "--role", role, who=caller)
            self.tokens[name] = made["token"]

    def files_with(self, text: str) -> list[Path]:
        """Return the files of the home that hold the text, in order."""
        sought = text.encode()
        return [
            path
            for path in sorted(self.home.rglob("*"))
            if path.is_file() and sought in path.read_bytes()
        ]
