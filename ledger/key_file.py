# SPDX-License-Identifier: Apache-2.0
"""Keys on disk: the signing key readable by its owner alone, and vkey files."""

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from ledger.checkpoint import SigningKey, VerifierKey
from ledger.errors import FormatError, KeyFileError

_MAX_KEY_BYTES: Final = 64 * 1024


def load_or_create(path: Path, name: str) -> SigningKey:
    """Return the signing key of this file, which exists from now on with mode 0600.

    Two processes that start together end with the same key: the file appears
    complete or not at all, and only the first to link it wins.

    Raises:
        KeyFileError: the file is exposed, unreadable, no key, or of another name.
    """
    try:
        if not path.exists():
            _create(path, SigningKey.generate(name))
        return load_signing_key(path, name)
    except OSError as exc:
        raise KeyFileError(f"key file {path} cannot be used: {exc.strerror}.") from exc


def load_signing_key(path: Path, name: str | None = None) -> SigningKey:
    """Return the signing key of an existing file.

    Raises:
        KeyFileError: it is missing, exposed, no key, or of another name than given.
    """
    try:
        with path.open("rb") as file:
            _check_private(path, os.fstat(file.fileno()))
            pem = file.read(_MAX_KEY_BYTES)
    except OSError as exc:
        raise KeyFileError(f"key file {path} cannot be read: {exc.strerror}.") from exc
    key = SigningKey.from_pem(pem, name)
    if name is not None and key.name != name:
        raise KeyFileError(
            f"key file {path} holds the key of {key.name}, expected {name}; signing "
            "under another name would make every checkpoint a stranger's."
        )
    return key


def load_verifier(path: Path) -> VerifierKey:
    """Return the verifier key of a text file: its first line that is no comment.

    Raises:
        KeyFileError: the file cannot be read or holds no verifier key.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_KEY_BYTES).decode("utf-8")
        lines = [line.strip() for line in text.splitlines()]
        vkey = next(line for line in lines if line and not line.startswith("#"))
        return VerifierKey.parse(vkey)
    except OSError as exc:
        raise KeyFileError(f"key file {path} cannot be read: {exc.strerror}.") from exc
    except (StopIteration, UnicodeDecodeError, FormatError) as exc:
        raise KeyFileError(
            f"key file {path} holds no verifier key; expected a line name+hash+base64."
        ) from exc


def save_verifier(path: Path, key: VerifierKey) -> None:
    """The file now holds the vkey line, readable by everyone."""
    path.write_text(f"{key}\n", encoding="utf-8")


def save_new_key(path: Path, key: SigningKey) -> None:
    """The file holds this key, readable by its owner alone; an existing one stays.

    Raises:
        KeyFileError: the file cannot be written.
    """
    try:
        _create(path, key)
    except OSError as exc:
        raise KeyFileError(
            f"key file {path} cannot be written: {exc.strerror}."
        ) from exc


def _check_private(path: Path, found: os.stat_result) -> None:
    if os.name == "posix" and found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise KeyFileError(
            f"key file {path} has mode {mode:04o} and can be read by others; "
            f"run 'chmod 600 {path}' and consider the key known."
        )


def _create(path: Path, key: SigningKey) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(draft, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.to_pem())
            file.flush()
            os.fsync(file.fileno())
        # A link fails where the name is taken, so it is O_EXCL for a whole file;
        # whoever lost the race reads the winner's key.
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """The folder's names are on the disk: a power cut takes no new file back."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
