# SPDX-License-Identifier: Apache-2.0
"""Print what the project needs, so that an image can install it before the code."""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: str, extras: list[str]) -> list[str]:
    """Return the requirements of the project and of the named extras.

    Raises:
        SystemExit: an extra does not exist.
    """
    project = tomllib.loads(pyproject)["project"]
    known = project.get("optional-dependencies", {})
    found = list(project["dependencies"])
    for extra in extras:
        if extra not in known:
            raise SystemExit(
                f"pyproject.toml has no extra {extra!r}, only {', '.join(known)}"
            )
        found += known[extra]
    return found


if __name__ == "__main__":
    wanted = [extra.strip() for extra in sys.argv[2].split(",") if extra.strip()]
    for line in requirements(Path(sys.argv[1]).read_text(encoding="utf-8"), wanted):
        sys.stdout.write(f"{line}\n")
