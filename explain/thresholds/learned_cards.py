# SPDX-License-Identifier: Apache-2.0
"""What the rule keeps that earlier runs taught."""

from explain.parameters import Parameter
from explain.thresholds.card import PolicyCard

_LEARNED = PolicyCard(
    name="learned",
    rule=(
        "What another policy keeps: for each item the one of the highest reward that a"
        " fitted table believes in, given how busy the picture is, how sure the network"
        " and how concentrated the map; or, to explore, of the highest reward drawn"
        " from that belief."
    ),
    source=(
        "Thompson 1933, On the likelihood that one unknown probability exceeds another;"
        " Agrawal and Goyal 2013, Thompson sampling for contextual bandits with linear"
        " payoffs"
    ),
    parameters={
        "table": Parameter(
            meaning="the path of a file that `affidavit learn RUN RUN` wrote; in"
            " Python also its content or a PolicyTable",
            kind=object,
        ),
        "explore": Parameter(
            meaning="whether to draw from the belief, so that the run teaches the next"
            " table",
            default=False,
        ),
    },
    cost="that of the policies in the table together",
)

CARDS = (_LEARNED,)
