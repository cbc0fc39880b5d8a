# SPDX-License-Identifier: Apache-2.0
"""Many tests at once: p-values that stay honest about the whole family.

Source: Holm 1979, "A simple sequentially rejective multiple test procedure",
Scandinavian Journal of Statistics 6(2).
"""

from collections.abc import Mapping

from explain.errors import InvalidInputError


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return each test's adjusted p-value, by its name.

    The family is fixed beforehand: leaving a test out because of its result would
    make the others look better than they are.

    Raises:
        InvalidInputError: a p-value does not lie between 0 and 1.
    """
    for name, value in p_values.items():
        if not 0 <= value <= 1:
            raise InvalidInputError(f"The p-value {value} of {name} is none.")
    ordered = sorted(p_values.items(), key=lambda pair: pair[1])
    adjusted: dict[str, float] = {}
    largest = 0.0
    for place, (name, value) in enumerate(ordered):
        largest = max(largest, min(1.0, value * (len(ordered) - place)))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}
