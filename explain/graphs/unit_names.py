# SPDX-License-Identifier: Apache-2.0
"""What the units of a graph can be, by name. Nothing is imported here."""

EDGE, NODE = "edge", "node"
