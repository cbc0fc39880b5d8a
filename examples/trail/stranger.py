# SPDX-License-Identifier: Apache-2.0
"""Somebody outside: a fresh Python with `cryptography`, a verifier and a public key."""

import json
import shutil
import subprocess
import venv
from importlib import metadata
from pathlib import Path
from typing import Any

from installation import DemonstrationError
from packaging.requirements import Requirement

HERE = Path(__file__).parent
#: What the only package that is installed is called.
PACKAGE = "cryptography"


class Stranger:
    """A folder with a virtual environment of its own and what was handed over."""

    def __init__(self, folder: Path, *, from_index: bool) -> None:
        """The environment is made and holds one package and what that needs.

        Args:
            folder: Where; made new.
            from_index: Whether pip fetches the package; otherwise the installed files
                of this environment are copied, for places without a network.

        Raises:
            DemonstrationError: pip could not fetch it.
        """
        self.folder = folder
        place = folder / "venv"
        venv.create(place, with_pip=from_index, clear=True)
        self.python = place / "bin" / "python"
        if from_index:
            self._install()
        else:
            self._copy(
                Path(self._ask("import sysconfig as s; print(s.get_path('purelib'))"))
            )

    def _install(self) -> None:
        done = subprocess.run(
            [str(self.python), "-m", "pip", "install", "-q", PACKAGE],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DemonstrationError(
                f"pip could not install {PACKAGE}; without a network use --copy.\n"
                + done.stderr
            )

    @staticmethod
    def _copy(site: Path) -> None:
        wanted, done = [PACKAGE], set()
        while wanted:
            name = wanted.pop()
            if name in done:
                continue
            done.add(name)
            found = metadata.distribution(name)
            for file in found.files or ():
                source = Path(str(found.locate_file(file)))
                if ".." in file.parts or not source.is_file():
                    continue  # scripts, which nobody calls here
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            for text in found.requires or ():
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                    wanted.append(needed.name)

    def _ask(self, code: str) -> str:
        return subprocess.run(
            [str(self.python), "-I", "-c", code],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    def packages(self) -> list[str]:
        """Return what is installed there, installers left out."""
        names = json.loads(
            self._ask(
                "import json, importlib.metadata as m; "
                "print(json.dumps(sorted({d.name for d in m.distributions()})))"
            )
        )
        return [name for name in names if name not in {"pip", "setuptools", "wheel"}]

    def verify(self, bundle: Path, *more: object) -> tuple[int, dict[str, Any]]:
        """Return exit code and verdict of the one-file verifier, with no network."""
        done = subprocess.run(
            [
                *(str(self.python), "-I", str(HERE / "offline.py")),
                *(str(self.folder / "verify.pyz"), str(bundle)),
                *("--key", str(self.folder / "ledger.vkey"), "--json"),
                *map(str, more),
            ],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            return done.returncode, json.loads(done.stdout)
        except ValueError as exc:
            raise DemonstrationError(
                f"The verifier ended with {done.returncode}:\n{done.stderr}"
            ) from exc

    def opened_certificate(self, certificate: str) -> list[str]:
        """Return the certificate's lines; the pinned key has signed it.

        Raises:
            DemonstrationError: it has not.
        """
        done = subprocess.run(
            [
                *(str(self.python), "-I", str(HERE / "certificate.py")),
                *(str(self.folder / "verify.pyz"), str(self.folder / "ledger.vkey")),
            ],
            input=certificate,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DemonstrationError(f"The certificate does not hold:\n{done.stderr}")
        return done.stdout.splitlines()
