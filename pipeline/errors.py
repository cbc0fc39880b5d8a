# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with an audit, named by the reaction it needs.

```
AuditError
├─ SpecError            the spec is wrong: the user mends it (exit 2)
├─ ModelError           the model or its weights cannot be used (exit 2)
│  └─ ModelRefusedError   ... because they are not to be trusted; the ledger tells
├─ GateRefusedError     the sanity gate stopped the audit (exit 1)
├─ SourceError          the data source cannot be listed (exit 2)
├─ AccessRefusedError   a principal may not do that, or not alone (exit 2)
├─ InfrastructureError  a server, store or device is missing (exit 4)
└─ ItemError            one item cannot be explained: it becomes a row with a reason
```
"""

from enum import StrEnum


class AuditError(Exception):
    """The root of every error that this package raises on purpose."""


class SpecError(AuditError):
    """The spec is wrong; the message says where and how to mend it."""


class ModelError(AuditError):
    """The model or its weights cannot be used."""


class Refusal(StrEnum):
    """Why a model is not to be trusted, as the ledger tells it."""

    HOLDS_CODE = "holds_code"
    CODE_NOT_ALLOWED = "code_not_allowed"
    DIGEST_MISMATCH = "digest_mismatch"


class ModelRefusedError(ModelError):
    """The model or its weights are not to be trusted.

    Attributes:
        code: Why, in one word.
        sha256: Of the weights file, None where it is not about a file.
    """

    def __init__(
        self, message: str, *, code: Refusal, sha256: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.sha256 = sha256


class GateRefusedError(AuditError):
    """A check of the sanity gate is flagged, and the audit makes the gate blocking."""


class SourceError(AuditError):
    """The data source cannot be listed."""


class AccessRefusedError(AuditError):
    """Whoever asked may not do that, or not without the word of a second one."""


class InfrastructureError(AuditError):
    """A server, a store or a device that the run needs is not there."""


class Reason(StrEnum):
    """Why an item has no explanation, or a weaker one than asked for."""

    FILE_MISSING = "file_missing"
    FILE_EMPTY = "file_empty"
    FILE_TOO_LARGE = "file_too_large"
    FILE_UNREADABLE = "file_unreadable"
    FILE_CHANGED = "file_changed"
    NOT_AN_IMAGE = "not_an_image"
    IMAGE_TRUNCATED = "image_truncated"
    IMAGE_TOO_LARGE = "image_too_large"
    UNSUPPORTED_CHANNELS = "unsupported_channels"
    NOT_A_TEXT = "not_a_text"
    TEXT_EMPTY = "text_empty"
    TEXT_TOO_LONG = "text_too_long"
    #: The tokenizer knows no part of the text.
    TEXT_UNKNOWN = "text_unknown"
    OUTSIDE_ALLOWED_ROOTS = "outside_allowed_roots"
    DUPLICATE_ITEM = "duplicate_item"
    LABEL_MISSING = "label_missing"
    LABEL_UNKNOWN = "label_unknown"
    LABEL_AMBIGUOUS = "label_ambiguous"
    MASK_MISSING = "mask_missing"
    MASK_UNREADABLE = "mask_unreadable"
    MASK_SIZE_MISMATCH = "mask_size_mismatch"
    #: The person whom it is about asked to be forgotten.
    SUBJECT_ERASED = "subject_erased"
    #: Its worker died or hung twice with this item alone in work.
    KILLED_WORKER = "killed_worker"
    #: The computation failed twice with this item alone in the batch.
    BROKE_COMPUTATION = "broke_computation"
    #: A row of a table is damaged, or not what it was when it was listed.
    ROW_UNREADABLE = "row_unreadable"
    NOT_A_SEQUENCE = "not_a_sequence"
    SEQUENCE_EMPTY = "sequence_empty"
    SEQUENCE_TOO_LONG = "sequence_too_long"
    #: Another number of features than the audit says, or a gap in a wide row.
    SEQUENCE_RAGGED = "sequence_ragged"
    STEPS_UNSORTED = "steps_unsorted"
    #: No JSON object, or without x and edge_index as they should be.
    GRAPH_UNREADABLE = "graph_unreadable"
    GRAPH_EMPTY = "graph_empty"
    #: Edges are ranked, and there are none.
    GRAPH_WITHOUT_EDGES = "graph_without_edges"
    GRAPH_TOO_LARGE = "graph_too_large"
    #: Its nodes have more or fewer numbers than the network takes.
    GRAPH_FEATURES_MISMATCH = "graph_features_mismatch"
    #: A row of JSON lines lacks a column that the encoding needs.
    COLUMN_MISSING = "column_missing"
    CELL_EMPTY = "cell_empty"
    CELL_NOT_A_NUMBER = "cell_not_a_number"
    #: NaN, infinity, or more than a network's numbers can hold.
    CELL_NOT_FINITE = "cell_not_finite"
    #: The encoding has no such level.
    CATEGORY_UNKNOWN = "category_unknown"
    NON_FINITE_OUTPUT = "non_finite_output"
    NON_FINITE_MAP = "non_finite_map"
    ZERO_GRADIENT = "zero_gradient"
    CONSTANT_MAP = "constant_map"
    #: The item is done, but fewer positions are positive than were asked to be kept.
    INSUFFICIENT_SUPPORT = "insufficient_support"
    #: The item is done, but no mask kept the asked share of the confidence.
    Q_NOT_REACHED = "q_not_reached"


class ItemError(AuditError):
    """One item cannot be explained; the others go on.

    Attributes:
        reason: The enumerated code that is stored; free text could hold personal data.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
