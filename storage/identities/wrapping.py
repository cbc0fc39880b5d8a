# SPDX-License-Identifier: Apache-2.0
"""The keys that wrap keys: a protocol, and a file for those who have no key service.

A key service (KMS, HSM) implements `KeyWrapper`; its keys then never leave it.
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from storage.errors import KeyStoreError

SCHEMA: Final = "affidavit.subject-keys/1"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12


class KeyWrapper(Protocol):
    """Holds the epochs' keys and the key of the blind index."""

    @property
    def current(self) -> str:
        """The epoch under which new keys are wrapped."""
        ...

    @property
    def fingerprint(self) -> str:
        """Tells these keys from those of another installation, and nothing else."""
        ...

    def blind_index(self, message: bytes) -> str:
        """Return the keyed HMAC-SHA256 of a message, in hexadecimal."""
        ...

    def wrap(self, epoch: str, key: bytes, context: bytes) -> bytes:
        """Return the key, encrypted under the epoch's and bound to the context."""
        ...

    def unwrap(self, epoch: str, wrapped: bytes, context: bytes) -> bytes:
        """Return the key.

        Raises:
            KeyStoreError: the epoch's key is gone, or the bytes are not its work.
        """
        ...

    def begin_epoch(self) -> str:
        """Return the epoch that is current from now on, with a new key."""
        ...

    def forget(self, epoch: str) -> None:
        """The epoch's key is gone: what is wrapped under it opens never again."""
        ...


def seal(key: bytes, plain: bytes, context: bytes) -> bytes:
    """Return nonce and ciphertext, AES-256-GCM with the context authenticated."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """Return what was sealed under this key and context.

    Raises:
        KeyStoreError: it was altered, or sealed under another key or context.
    """
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
    except (InvalidTag, ValueError) as exc:
        raise KeyStoreError(
            "A sealed identity or key does not open: it was altered, or is of another "
            "key."
        ) from exc


@dataclass(frozen=True, slots=True)
class _Keys:
    """What is in the file."""

    index: bytes
    current: str
    epochs: dict[str, bytes]


class KeyFile:
    """A `KeyWrapper` in a file that its owner alone can read."""

    def __init__(self, path: Path, *, may_create: bool) -> None:
        """Open the file, or make it.

        Raises:
            KeyStoreError: it is missing and may not be made, exposed, or no key file.
        """
        self._path = path
        if may_create and not path.exists():
            first = _epoch_name()
            _create(path, _Keys(_new_key(), first, {first: _new_key()}))
        self._keys = _read(path)

    @property
    def current(self) -> str:
        """See `KeyWrapper.current`."""
        return self._keys.current

    @property
    def fingerprint(self) -> str:
        """See `KeyWrapper.fingerprint`."""
        return self.blind_index(b"fingerprint of this key file")

    def blind_index(self, message: bytes) -> str:
        """See `KeyWrapper.blind_index`."""
        return hmac.new(self._keys.index, message, hashlib.sha256).hexdigest()

    def wrap(self, epoch: str, key: bytes, context: bytes) -> bytes:
        """See `KeyWrapper.wrap`."""
        return seal(self._key_of(epoch), key, context)

    def unwrap(self, epoch: str, wrapped: bytes, context: bytes) -> bytes:
        """See `KeyWrapper.unwrap`."""
        return unseal(self._key_of(epoch), wrapped, context)

    def begin_epoch(self) -> str:
        """See `KeyWrapper.begin_epoch`."""
        epoch = _epoch_name()
        epochs = self._keys.epochs | {epoch: _new_key()}
        self._replace(_Keys(self._keys.index, epoch, epochs))
        return epoch

    def forget(self, epoch: str) -> None:
        """See `KeyWrapper.forget`."""
        left = {name: key for name, key in self._keys.epochs.items() if name != epoch}
        self._replace(_Keys(self._keys.index, self._keys.current, left))

    def _key_of(self, epoch: str) -> bytes:
        key = self._keys.epochs.get(epoch)
        if key is None:
            raise KeyStoreError(
                f"The key of the epoch {epoch} is gone; what it wrapped opens no more."
            )
        return key

    def _replace(self, keys: _Keys) -> None:
        draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        try:
            _write(draft, keys)
            draft.replace(self._path)
        except OSError as exc:
            raise _unusable(self._path, exc) from exc
        self._keys = keys


def _new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def _epoch_name() -> str:
    return secrets.token_hex(8)


def _create(path: Path, keys: _Keys) -> None:
    """The file is there; of two who make it at once, one wins."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(draft, keys)
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        finally:
            draft.unlink()
    except OSError as exc:
        raise _unusable(path, exc) from exc


def _write(path: Path, keys: _Keys) -> None:
    document = {
        "schema": SCHEMA,
        "index": base64.b64encode(keys.index).decode(),
        "current": keys.current,
        "epochs": {
            name: base64.b64encode(key).decode() for name, key in keys.epochs.items()
        },
    }
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())


def _require_private(path: Path, mode: int) -> None:
    if os.name == "posix" and mode & 0o077:
        raise KeyStoreError(
            f"The key file {path} has mode {mode:04o} and can be read by others; run "
            f"'chmod 600 {path}' and consider its keys known."
        )


def _no_keys(path: Path) -> KeyStoreError:
    return KeyStoreError(f"The key file {path} holds no keys of subjects; restore it.")


def _read(path: Path) -> _Keys:
    try:
        with path.open("rb") as file:
            _require_private(path, stat.S_IMODE(os.fstat(file.fileno()).st_mode))
            document: Any = json.load(file)
        epochs = {name: _key(text) for name, text in document["epochs"].items()}
        keys = _Keys(_key(document["index"]), document["current"], epochs)
        is_whole = document["schema"] == SCHEMA and keys.current in epochs
    except FileNotFoundError as exc:
        raise KeyStoreError(
            f"The key file {path} of the subjects is not here; bring it from the host "
            "that has it and set AFFIDAVIT_KEYS_FILE."
        ) from exc
    except OSError as exc:
        raise _unusable(path, exc) from exc
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        # Without the cause, which may quote the file.
        raise _no_keys(path) from None
    if not is_whole:
        raise _no_keys(path)
    return keys


def _key(text: str) -> bytes:
    key = base64.b64decode(text, validate=True)
    if len(key) != KEY_BYTES:
        raise ValueError(len(key))
    return key


def _unusable(path: Path, exc: OSError) -> KeyStoreError:
    return KeyStoreError(f"The key file {path} cannot be used: {exc.strerror}.")
