# SPDX-License-Identifier: Apache-2.0
"""The kinds of items by the names that audits use. No torch here."""

IMAGE, TEXT, SEQUENCE, GRAPH, TABLE = "image", "text", "sequence", "graph", "table"

#: Kinds whose items are units behind gates, see `explain.gates`.
GATED = (TEXT, SEQUENCE, GRAPH, TABLE)
KINDS = (IMAGE, *GATED)
