# SPDX-License-Identifier: Apache-2.0
"""Networks by name: architectures, and weights that load without running code.

Here: torchvision, timm, architectures registered by entry point, and the reading of
weights. Not here: which layer is tapped (`explain.architectures`).
"""
