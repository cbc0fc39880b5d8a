# SPDX-License-Identifier: Apache-2.0
"""Sequences: items of numbers over time, seen through gates by recurrent networks.

Here: the content of an item, the network behind gates, recurrent layers run step by
step, and the methods that only sequences have. Not here: how sequences are read
(`pipeline.kinds`). This module imports nothing, so that cards and contents load
without torch.
"""
