# SPDX-License-Identifier: Apache-2.0
"""Which keys and digests are well-formed; both stores hold to the same rules."""

import re

from storage.objects.errors import InvalidKeyError

_MAX_KEY_BYTES = 900  # S3 allows 1024, of which the store's own prefix takes some
_MAX_SEGMENT_BYTES = 255  # the longest file name of the common file systems
_SHA256 = re.compile(r"[0-9a-f]{64}")


def checked_key(key: str) -> str:
    """Return the key unchanged: it means the same in a folder and on S3.

    No segment starts with a dot, so that a key can neither climb out of a folder nor
    meet the temporary files that folder-backed servers keep beside the objects.

    Raises:
        InvalidKeyError: the key is empty, too long, or has a segment that no file
            system or no S3 server takes.
    """
    if len(_encoded(key)) > _MAX_KEY_BYTES:
        raise InvalidKeyError(
            f"an object key has at most {_MAX_KEY_BYTES} bytes, "
            f"got {len(_encoded(key))}: shorten it"
        )
    for segment in key.split("/"):
        _check_segment(segment, key)
    return key


def checked_prefix(prefix: str) -> str:
    """Return the prefix unchanged: some well-formed key could start with it.

    Raises:
        InvalidKeyError: one of its complete segments is malformed.
    """
    folders, _, _ = prefix.rpartition("/")
    if folders or prefix.startswith("/"):
        checked_key(folders)
    _encoded(prefix)
    return prefix


def checked_sha256(sha256: str) -> str:
    """Return the digest unchanged: 64 lower-case hexadecimal characters.

    Raises:
        InvalidKeyError: it is anything else.
    """
    if not _SHA256.fullmatch(sha256):
        raise InvalidKeyError(
            f"a SHA-256 is 64 lower-case hexadecimal characters, got {sha256!r}"
        )
    return sha256


def _check_segment(segment: str, key: str) -> None:
    if not segment:
        raise InvalidKeyError(
            f"object key {key!r} has an empty segment: "
            "it must not start or end with a slash, nor hold two in a row"
        )
    if segment.startswith("."):
        raise InvalidKeyError(
            f"object key {key!r} has the segment {segment!r}: "
            "no segment may start with a dot"
        )
    if "\\" in segment or not segment.isprintable():
        raise InvalidKeyError(
            f"object key {key!r} holds a backslash or an unprintable character"
        )
    if len(_encoded(segment)) > _MAX_SEGMENT_BYTES:
        raise InvalidKeyError(
            f"object key {key!r} has a segment longer than {_MAX_SEGMENT_BYTES} bytes"
        )


def _encoded(key: str) -> bytes:
    try:
        return key.encode()
    except UnicodeEncodeError as exc:
        raise InvalidKeyError(f"object key {key!r} is no valid Unicode text") from exc
