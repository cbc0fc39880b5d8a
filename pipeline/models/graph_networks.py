# SPDX-License-Identifier: Apache-2.0
"""The graph classifiers `gin`, `gcn` and `gat`, which need the extra `graph`."""

import warnings
from typing import Any

from pipeline.errors import ModelError
from pipeline.models.architecture import Architecture


def _architecture(kind: str) -> Architecture:
    def build(
        *, features: int, hidden: int = 64, layers: int = 3, classes: int = 2
    ) -> Any:
        try:
            with warnings.catch_warnings():
                # torch-geometric uses what torch deprecates; nobody here can help it.
                warnings.simplefilter("ignore", FutureWarning)
                from pipeline.models.graph_classifier import (  # noqa: PLC0415
                    GraphClassifier,
                )
        except ModuleNotFoundError as exc:
            raise ModelError(
                f"The architecture {kind} needs torch-geometric; install it with:"
                " pip install 'affidavit[graph]'."
            ) from exc
        return GraphClassifier(
            kind, features=features, hidden=hidden, layers=layers, classes=classes
        )

    return Architecture(build=build)


gin = _architecture("gin")
gcn = _architecture("gcn")
gat = _architecture("gat")
