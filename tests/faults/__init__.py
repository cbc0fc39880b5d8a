# SPDX-License-Identifier: Apache-2.0
"""Faults done to a real deployment, which the tests of this folder share."""
