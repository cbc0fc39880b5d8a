# SPDX-License-Identifier: Apache-2.0
"""The card of rows of tables."""

from explain.kinds import TABLE
from explain.parameters import Parameter
from pipeline.kinds.card import KindCard

TABLE_CARD = KindCard(
    name=TABLE,
    title="rows of tables",
    map_kind="columns",
    even=True,
    default_method="integrated_gradients",
    home=("pipeline.kinds.table", "TableKind"),
    options={
        "baseline": Parameter(
            meaning="what an absent column is: the training data's mean, or its shares"
            " of each category (training); or the row that the encoding gives"
            " (reference)",
            default="training",
            choices=("training", "reference"),
        ),
        "reasons": Parameter(
            meaning="how many reasons of a row are shown", default=8, low=1, high=1000
        ),
    },
    column="features",
    files=("encoding",),
    baseline="the training data's mean, of a category the shares of its levels",
)
