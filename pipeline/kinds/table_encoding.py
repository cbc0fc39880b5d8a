# SPDX-License-Identifier: Apache-2.0
"""The file that says how the columns of a table become a network's inputs.

Torch networks and tree models take the same rows: one number a numeric column, one for
each level of a category. It is JSON, checked field by field; a mistake is one sentence.
"""

import json
import math
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import ModelError

#: Numbers of a row; more is damage.
MOST_NUMBERS = 100_000
_MOST_BYTES = 64_000_000
#: How far shares may be from a sum of one.
_ROUNDING = 1e-3

Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False
    )


class NumericColumn(_Section):
    """A column of numbers: (value - mean) / std, or the value itself."""

    name: Name = Field(description="Name of the column.")
    kind: Literal["numeric"]
    mean: float = Field(description="Mean of the training data: the baseline.")
    std: float = Field(
        default=1.0, gt=0, description="Standard deviation of the training data."
    )
    scale: bool = Field(
        default=True,
        description="Whether the network is given (value - mean) / std; false gives it "
        "the value as it is.",
    )
    missing: Literal["refuse", "mean"] = Field(
        default="refuse",
        description="What an empty cell is: a failed item, or the mean.",
    )

    @property
    def width(self) -> int:
        """How many numbers it makes."""
        return 1

    @property
    def baseline(self) -> list[float]:
        """What the network is given in place of an absent cell."""
        return [self.scaled(self.mean)]

    def scaled(self, value: float) -> float:
        """Return what the network is given."""
        return (value - self.mean) / self.std if self.scale else value


class CategoryColumn(_Section):
    """A column of categories: a one for its level among zeros."""

    name: Name = Field(description="Name of the column.")
    kind: Literal["category"]
    levels: list[str] = Field(
        min_length=1,
        description="The categories, as texts, in the order of the network's inputs; "
        'an empty cell is the level "" where that is one.',
    )
    frequencies: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        description="Share of each level in the training data: the baseline."
    )
    unknown: Literal["refuse", "zero"] = Field(
        default="refuse",
        description="What a category that is no level is, an empty cell included: a "
        "failed item, or zeros throughout.",
    )

    @model_validator(mode="after")
    def _levels_have_shares(self) -> "CategoryColumn":
        if len(set(self.levels)) != len(self.levels):
            raise ValueError("a level is named twice")
        if len(self.levels) != len(self.frequencies):
            raise ValueError(
                f"{len(self.levels)} levels need as many frequencies, got "
                f"{len(self.frequencies)}"
            )
        total = math.fsum(self.frequencies)
        least = 1.0 if self.unknown == "refuse" else 0.0
        if not least - _ROUNDING <= total <= 1 + _ROUNDING:
            raise ValueError(f"frequencies must sum to 1, got {total:g}")
        return self

    @property
    def width(self) -> int:
        """How many numbers it makes."""
        return len(self.levels)

    @property
    def baseline(self) -> list[float]:
        """What the network is given in place of an absent cell."""
        return list(self.frequencies)


Column = Annotated[NumericColumn | CategoryColumn, Field(discriminator="kind")]


class Encoding(_Section):
    """All columns that the network is given, in its order."""

    columns: list[Column] = Field(
        min_length=1, description="The columns, in the order of the network's inputs."
    )
    reference: dict[str, str | int | float | None] | None = Field(
        default=None,
        description="A row that stands for absent columns under `baseline: reference`; "
        "column to cell.",
    )

    @model_validator(mode="after")
    def _columns_are_distinct(self) -> "Encoding":
        names = self.names
        doubled = next((name for name in names if names.count(name) > 1), None)
        if doubled is not None:
            raise ValueError(f"the column {doubled!r} is named twice")
        if sum(column.width for column in self.columns) > MOST_NUMBERS:
            raise ValueError(f"a row has more than {MOST_NUMBERS:,} numbers")
        given = names if self.reference is None else self.reference
        strange = sorted(set(given) ^ set(names))
        if strange:
            raise ValueError(
                f"reference must name every column and no other; see {strange[0]!r}"
            )
        return self

    @property
    def names(self) -> list[str]:
        """The columns' names, in order."""
        return [column.name for column in self.columns]


def read_encoding(path: Path) -> Encoding:
    """Return the encoding that the file holds.

    Raises:
        ModelError: the file cannot be read, or says something wrong; the message says
            where.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ModelError(
            f"The encoding {path} cannot be read ({exc.strerror}); check"
            " model.encoding."
        ) from exc
    if len(content) > _MOST_BYTES:
        raise ModelError(f"The encoding {path} is larger than {_MOST_BYTES:,} bytes.")
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise ModelError(f"The encoding {path} is not JSON; write it again.") from exc
    try:
        return Encoding.model_validate(document)
    except ValidationError as exc:
        first = exc.errors()[0]
        said = str(first["msg"]).removeprefix("Value error, ")
        where = ".".join(str(part) for part in first["loc"] if part not in _TAGS)
        raise ModelError(
            f"The encoding {path} is wrong{f' at {where}' if where else ''}:"
            f" {said[:1].lower()}{said[1:].rstrip('.')}."
        ) from exc


#: Pydantic puts the kind of a column among the keys that lead to a mistake.
_TAGS = ("numeric", "category")


def require_features(features: list[str], encoding: Encoding) -> None:
    """Nothing happens if the audit names the encoding's columns, or none.

    Raises:
        ModelError: it names others; offers the nearest.
    """
    names = encoding.names
    for name in features:
        if name not in names:
            near = get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ModelError(
                f"data.columns.features: the encoding has no column {name!r}{hint}"
            )
    left = [name for name in names if name not in features]
    if features and left:
        raise ModelError(
            f"data.columns.features: the encoding needs the column {left[0]!r} as well;"
            f" name all {len(names)} of its columns."
        )


def encoding_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file (draft 2020-12)."""
    schema = Encoding.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
