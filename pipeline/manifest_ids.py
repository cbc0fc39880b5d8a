# SPDX-License-Identifier: Apache-2.0
"""The digest of what a manifest's rows were given here: random ids, and their doubles.

It is apart from the manifest's own digest, which two runs over the same data share:
ids are drawn anew for each run.
"""

import hashlib


class ManifestIds:
    """The running digest of item ids in manifest order, and of which repeats which."""

    def __init__(self) -> None:
        self._ids = hashlib.sha256()
        self._doubles = hashlib.sha256()

    def add(self, item_id: str) -> None:
        """The next item of the manifest has this id."""
        self._ids.update(item_id.encode() + b"\n")

    def add_duplicate(self, item_index: int, duplicate_of: int) -> None:
        """The item repeats an earlier one; to be called in manifest order."""
        self._doubles.update(f"{item_index} {duplicate_of}\n".encode())

    def hexdigest(self) -> str:
        """Return the digest of everything so far."""
        both = self._ids.digest() + self._doubles.digest()
        return hashlib.sha256(both).hexdigest()
