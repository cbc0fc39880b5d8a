# SPDX-License-Identifier: Apache-2.0
"""The architectures that pyproject.toml declares, also where they are not installed.

An editable installation knows the entry points of the day it was made.
"""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from pipeline.models import loading

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@contextmanager
def declared_models() -> Iterator[None]:
    """Within the block every declared architecture can be named in a spec."""
    project = tomllib.loads(_PROJECT.read_text("utf-8"))["project"]
    declared = project["entry-points"][loading.GROUP]
    points = [metadata.EntryPoint(n, v, loading.GROUP) for n, v in declared.items()]
    known = metadata.entry_points

    def entry_points(**asked: Any) -> Any:
        if asked != {"group": loading.GROUP}:
            return known(**asked)
        others = [point for point in known(**asked) if point.name not in declared]
        return metadata.EntryPoints([*points, *others])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading.metadata, "entry_points", entry_points)
        yield
