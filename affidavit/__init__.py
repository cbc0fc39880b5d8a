# SPDX-License-Identifier: Apache-2.0
"""The face of Affidavit: the command line and the public Python API.

```python
import affidavit

outcome = affidavit.run("audit.yaml")
frame = affidavit.results(outcome.run)
```

Here: what people call. Not here: any work of its own. Importing this package imports
neither torch nor SQLAlchemy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affidavit.api import Explained, RunOutcome, explain, load_spec, results, run

__all__ = ["Explained", "RunOutcome", "explain", "load_spec", "results", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Return a part of the API, imported at its first use."""
    if name not in __all__:
        raise AttributeError(f"module 'affidavit' has no attribute '{name}'")
    from affidavit import api  # noqa: PLC0415

    return getattr(api, name)
