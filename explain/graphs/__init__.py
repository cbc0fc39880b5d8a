# SPDX-License-Identifier: Apache-2.0
"""Graphs seen through gates: their edges or their nodes are the units.

Networks are graph classifiers that are called with `x`, `edge_index` and `batch`. Those
of torch-geometric (extra `graph`) are gated at their messages, others at the edge
weights that they take; nothing here imports torch-geometric by itself.
"""
