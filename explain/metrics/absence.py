# SPDX-License-Identifier: Apache-2.0
"""Why a metric has no value for an item."""

from enum import StrEnum


class AbsenceReason(StrEnum):
    """The enumerated reasons; they are stored, so names never change."""

    #: The item failed earlier, or is zero padding of the last batch.
    INVALID_ITEM = "invalid_item"
    #: A value that the metric needs is NaN or infinite.
    NON_FINITE = "non_finite"
    #: The map is the same everywhere, so it ranks nothing and marks nothing.
    CONSTANT_MAP = "constant_map"
    #: The item came without a ground truth mask.
    NO_GROUND_TRUTH = "no_ground_truth"
    #: The ground truth mask marks nothing (it may lie outside the crop).
    EMPTY_GROUND_TRUTH = "empty_ground_truth"
    #: The explanation's mask keeps nothing.
    EMPTY_MASK = "empty_mask"
    #: The map's norm is zero, so a relative change is undefined.
    ZERO_NORM = "zero_norm"
    #: The map has no positive energy.
    ZERO_ENERGY = "zero_energy"
    #: The target's probability is zero, so a ratio to it is undefined.
    ZERO_PROBABILITY = "zero_probability"
    #: The output does not change from the baseline, so a ratio to it is undefined.
    ZERO_CHANGE = "zero_change"
    #: What would be correlated or fitted is the same in every sample.
    NO_VARIATION = "no_variation"
    #: No changed input kept the predicted class.
    CLASS_CHANGED = "class_changed"
    #: The network has no linear layer whose input could stand for a representation.
    NO_REPRESENTATION = "no_representation"
    #: The map of the randomised network is the same everywhere or not finite.
    BLANK_RANDOMISED = "blank_randomised"
    #: The network has one class only, so that there is no other to explain.
    NO_OTHER_CLASS = "no_other_class"
