# SPDX-License-Identifier: Apache-2.0
"""Times Quantus' pixel flipping; run by ``metrics.py`` in an interpreter of its own.

Prints the seconds outside of the network per changed image, one for each round, as
JSON. Its features in a step must divide the pixels, so it takes 21 steps, not 20; it
ranks and removes each channel's pixels on their own.

Usage: PYTHON benchmarks/metrics_quantus.py FILE THREADS ROUNDS
"""

import json
import sys
import time
import warnings

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

warnings.simplefilter("ignore")
import quantus  # noqa: E402

#: Pixels of 224 x 224 over 7: three channels make 21 steps.
IN_STEP = 7168


class Clocked(nn.Module):
    """A network that adds up the seconds spent in it and the images it saw."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seconds = 0.0
        self.images = 0

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        start = time.perf_counter()
        logits: Tensor = self.model(images)
        self.seconds += time.perf_counter() - start
        self.images += len(images)
        return logits


def main() -> None:
    """Print the figures."""
    path, threads, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = Clocked(torchvision.models.mobilenet_v3_large(weights=None)).eval()
    given = np.load(path)
    metric = quantus.PixelFlipping(
        features_in_step=IN_STEP,
        perturb_baseline=0.0,
        abs=False,
        normalise=False,
        disable_warnings=True,
        display_progressbar=False,
    )
    outside = []
    for turn in range(rounds + 1):
        model.seconds, model.images = 0.0, 0
        start = time.perf_counter()
        with torch.no_grad():
            metric(
                model=model,
                x_batch=given["inputs"],
                y_batch=given["targets"],
                a_batch=given["maps"],
                softmax=True,
                device="cpu",
                batch_size=64,
            )
        spent = time.perf_counter() - start
        if turn:
            outside.append((spent - model.seconds) / model.images)
    print(json.dumps({"outside": outside}))


if __name__ == "__main__":
    main()
