# SPDX-License-Identifier: Apache-2.0
"""What an audit declares about its model and its purpose, for people and not for work.

None of it decides a result, so none of it is in the spec's digest. It is shown in the
report as what it is: declared, and not checked by this program.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

#: A sentence or two; long texts belong in the document that `reference` names.
Statement = Annotated[str, Field(min_length=1, max_length=600)]
#: A name in a list.
Label = Annotated[str, Field(min_length=1, max_length=200)]


class Tier(StrEnum):
    """How much depends on the model."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class LegalBasis(StrEnum):
    """Article 6(1) GDPR, (a) to (f); a closed list, so that nobody is named."""

    CONSENT = "consent"
    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal_obligation"
    VITAL_INTERESTS = "vital_interests"
    PUBLIC_TASK = "public_task"
    LEGITIMATE_INTERESTS = "legitimate_interests"
    #: Nobody's data are processed.
    NO_PERSONAL_DATA = "no_personal_data"


class ModelRecordSpec(BaseModel):
    """The model's line in an inventory of models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    owner: Label | None = Field(
        default=None,
        description="Team or function that answers for the model; no person's name.",
    )
    tier: Tier | None = Field(
        default=None,
        description="How much depends on the model: low, medium or high.",
    )
    version: Label | None = Field(
        default=None, description="The owner's own name of this version."
    )
    intended_use: Statement | None = Field(
        default=None, description="What the model is for, and on whose data."
    )
    not_intended: Statement | None = Field(
        default=None, description="What it is not for."
    )
    reference: Label | None = Field(
        default=None,
        description="Where its documentation is, e.g. an inventory number.",
    )
