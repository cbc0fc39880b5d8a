# SPDX-License-Identifier: Apache-2.0
"""What the units of a sequence can be, and what a closed gate shows, by name."""

#: What a unit is: a step with all its features, a feature over all steps, or one
#: feature at one step.
STEP, FEATURE, BOTH = "step", "feature", "both"
PER = (STEP, FEATURE, BOTH)

#: What a closed gate shows: zero, which is the training mean where values are
#: normalised, or the sequence's own mean of each feature.
ZERO, MEAN = "zero", "mean"
BASELINES = (ZERO, MEAN)
