# SPDX-License-Identifier: Apache-2.0
"""What is said of an error that nobody foresaw.

Neither its text nor the values around it: both may quote an input, a name or a
password. Where it happened says nothing about anybody.
"""

import traceback
from pathlib import Path

from affidavit.cli.output import complain, note
from pipeline.errors import SpecError
from pipeline.settings import load_settings

#: Where our packages lie, and which they are: others may lie beside them.
_HERE = Path(__file__).resolve().parents[2]
_OURS = frozenset({"affidavit", "workers", "pipeline", "storage", "ledger", "explain"})

#: Most places that are told, the innermost last.
_PLACES = 50


def tell_fault(error: Exception) -> None:
    """The fault is one sentence on standard error, with its places under debug."""
    frames = traceback.extract_tb(error.__traceback__, limit=-_PLACES)
    ours = [frame for frame in frames if _our_name(frame.filename) is not None]
    where = f" in {_place(ours[-1])}" if ours else ""
    complain(
        f"a fault of affidavit itself ({type(error).__name__}{where}); its text is not "
        "shown because it may be personal, set AFFIDAVIT_LOG_LEVEL=debug to see the "
        "places that it went through and please report them."
    )
    if _is_debugging():
        for frame in frames:
            note(f"  {_place(frame)}")


def _place(frame: traceback.FrameSummary) -> str:
    path = _our_name(frame.filename) or "/".join(Path(frame.filename).parts[-3:])
    return f"{path}:{frame.lineno} {frame.name}"


def _our_name(file: str) -> str | None:
    """Return a file of ours as the repository calls it, None for any other."""
    path = Path(file)
    if not path.is_relative_to(_HERE):
        return None
    name = path.relative_to(_HERE)
    return name.as_posix() if name.parts[0] in _OURS else None


def _is_debugging() -> bool:
    try:
        return load_settings().log_level == "debug"
    except SpecError:
        return False
