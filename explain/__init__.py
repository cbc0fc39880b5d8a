# SPDX-License-Identifier: Apache-2.0
"""Numbers, pure: how a network's decision is explained, cut and measured.

Here live architectures (which layer to tap), methods (attribution maps),
thresholds (which part of a map is kept), metrics (how good an explanation is)
and statistics. Tensors and arrays come in, tensors and arrays go out.

No file, setting, network, database or clock may be touched from here, and
nothing of ours outside this package may be imported. This module imports
nothing, so that ``explain.statistics``, ``explain.numpy_maps``,
``explain.randomness`` and the cards load without torch.
"""
