# SPDX-License-Identifier: Apache-2.0
"""Rows of tables, explained by column.

Here: what a row is as numbers, networks and tree models that see it through gates, and
the methods that exist for tables alone. Not here: how a column becomes numbers
(`pipeline.kinds`), and methods that work on the gates of every kind.
"""
