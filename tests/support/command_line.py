# SPDX-License-Identifier: Apache-2.0
"""Commands called in this process, as somebody in that folder would call them."""

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


@contextlib.contextmanager
def standing_in(
    folder: Path, *, home: Path, variables: Mapping[str, str]
) -> Iterator[None]:
    """The working folder is that one; our settings are these variables and no other."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [key for key in os.environ if key.startswith("AFFIDAVIT_")]:
            patch.delenv(name)
        patch.setenv("AFFIDAVIT_HOME", str(home))
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        yield


def called(*arguments: object) -> Answer:
    """Return what the command answers; a process of its own would take seconds more."""
    from affidavit.cli.app import run_command

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command([str(argument) for argument in arguments])
    return Answer(code=code, out=out.getvalue(), err=err.getvalue())
