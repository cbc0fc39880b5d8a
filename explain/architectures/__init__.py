# SPDX-License-Identifier: Apache-2.0
"""Which layer of a network is tapped, and whether the network can be explained.

Here live the rules that look at a model once, before work starts. No method,
map or metric is computed here.
"""

from explain.architectures.attention import TappedAttention, resolve_attention
from explain.architectures.resolve import resolve_layer, working_layers
from explain.architectures.tapped import TappedLayer

__all__ = [
    "TappedAttention",
    "TappedLayer",
    "resolve_attention",
    "resolve_layer",
    "working_layers",
]
