# SPDX-License-Identifier: Apache-2.0
"""What an audit says of sequences. No torch here."""

from explain.kinds import SEQUENCE
from explain.parameters import Parameter
from explain.sequences.choices import BASELINES, PER
from pipeline.kinds.card import KindCard

SEQUENCE_CARD = KindCard(
    name=SEQUENCE,
    title="sequences of numbers",
    map_kind="steps",
    default_method="hidden_state_gradient",
    options={
        "per": Parameter(
            meaning="what is ranked: each step, each feature over all steps, or each"
            " feature at each step",
            default="step",
            choices=PER,
        ),
        "baseline": Parameter(
            meaning="what stands for a part that is gone: zero, which is the training"
            " mean where values are normalised, or the sequence's own mean of each"
            " feature",
            default="zero",
            choices=BASELINES,
        ),
        "mean": Parameter(
            meaning="subtracted from each feature: one number, or one a feature in"
            " order; none leaves the values as they are",
            default=(),
        ),
        "std": Parameter(
            meaning="each feature is divided by this after the mean is subtracted: one"
            " number, or one a feature in order",
            default=(),
            above=0,
        ),
        "features": Parameter(
            meaning="how many features a .npy file has; 0 takes"
            " model.arguments.features or the number of means",
            default=0,
            low=0,
        ),
        "max_steps": Parameter(
            meaning="the longest sequence that is explained; longer ones fail",
            default=10_000,
            low=1,
            high=1_000_000,
        ),
    },
    suffixes=(".npy",),
    column="features",
    baseline="zero, or the sequence's own mean of each feature",
    home=("pipeline.kinds.sequence", "SequenceKind"),
)
