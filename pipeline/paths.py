# SPDX-License-Identifier: Apache-2.0
"""Which local files an audit may touch."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SpecError

_REMOTE_PREFIX = "s3://"


class PathEscapeError(SpecError):
    """A path leads outside the folders that audits may read."""


def is_remote(uri: str) -> bool:
    """Return whether the URI names an object in S3 rather than a local file."""
    return uri.startswith(_REMOTE_PREFIX)


@dataclass(frozen=True, slots=True)
class AllowedRoots:
    """The folders under which every file of an audit must lie.

    Attributes:
        roots: The folders; symlinks in them are resolved once, here.
    """

    roots: tuple[Path, ...]

    def __post_init__(self) -> None:
        # Once each: the spec's folder often is the working directory.
        resolved = tuple(dict.fromkeys(Path(root).resolve() for root in self.roots))
        object.__setattr__(self, "roots", resolved)

    def contain(self, real_path: Path) -> bool:
        """Return whether a path without symlinks lies under one of the roots."""
        return any(real_path.is_relative_to(root) for root in self.roots)

    def root_of(self, real_path: Path) -> Path | None:
        """Return the root that a path without symlinks lies under, if any."""
        return next((r for r in self.roots if real_path.is_relative_to(r)), None)

    def resolve(self, text: str, *, base: Path) -> Path:
        """Return the file that the text names, free of symlinks and under a root.

        Relative text counts from `base`. The file need not exist.

        Raises:
            PathEscapeError: the file lies outside every allowed root.
            SpecError: the text cannot be a path.
        """
        try:
            path = (base / text).resolve()
        except (OSError, RuntimeError, ValueError) as exc:
            raise SpecError(
                f"{text!r} cannot be followed to a file: it holds a NUL character or"
                " a symbolic link that points at itself; mend the path."
            ) from exc
        if not self.contain(path):
            allowed = ", ".join(str(root) for root in self.roots) or "none"
            raise PathEscapeError(
                f"{text!r} leads outside the folders that audits may read"
                f" ({allowed}); move the file there or add its folder to"
                " AFFIDAVIT_ALLOWED_ROOTS."
            )
        return path
