# SPDX-License-Identifier: Apache-2.0
"""Cards of the methods that only ask the network, never differentiate it."""

from explain.methods.card import MethodCard

#: In the order in which they are listed.
PERTURBATION_CARDS: tuple[MethodCard, ...] = ()
