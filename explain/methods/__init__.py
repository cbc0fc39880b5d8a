# SPDX-License-Identifier: Apache-2.0
"""Attribution methods: one paper a file, each reached by its name.

A method turns a batch and its target classes into raw maps at their native
resolution. Nothing here resizes, thresholds, stores or judges a map. The cards
load without torch; the rest is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from explain.methods.card import MethodCard
from explain.methods.cards import METHODS

if TYPE_CHECKING:
    from explain.frozen import frozen
    from explain.methods.method import Attribution, Method
    from explain.methods.registry import create_method, resolve_tap

__all__ = [
    "METHODS",
    "Attribution",
    "Method",
    "MethodCard",
    "create_method",
    "frozen",
    "resolve_tap",
]


def __getattr__(name: str) -> Any:
    """Return an export that needs torch, importing it now."""
    from importlib import import_module  # noqa: PLC0415 - only when one is asked for

    homes = {
        "Attribution": "explain.methods.method",
        "Method": "explain.methods.method",
        "create_method": "explain.methods.registry",
        "frozen": "explain.frozen",
        "resolve_tap": "explain.methods.registry",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)
