# SPDX-License-Identifier: Apache-2.0
"""The tables of the keys' database; their metadata is apart from the others'.

They have one version so far, and are made where they are missing: a migration of the
one database must not wait for the other.
"""

from typing import Any, ClassVar

from sqlalchemy import (
    CheckConstraint,
    Double,
    LargeBinary,
    MetaData,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

#: On PostgreSQL the tables are in a schema of their own, which has grants of its own.
SCHEMA = "affidavit_keys"


class KeysTable(DeclarativeBase):
    """The base of every row class of the keys' database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {bytes: LargeBinary, float: Double}


class IdentityTable(KeysTable):
    """What a token stands for, encrypted."""

    __tablename__ = "identities"
    __table_args__ = (UniqueConstraint("kind", "blind_index"),)

    token: Mapped[str] = mapped_column(String(32), primary_key=True)
    #: `subject`, or `group:<column>` for a value of a group column.
    kind: Mapped[str] = mapped_column(String(200))
    #: Keyed HMAC of kind and value: found by who has the key, guessed by nobody else.
    blind_index: Mapped[str] = mapped_column(String(64))
    #: Nonce and AES-256-GCM ciphertext under the token's own key.
    sealed: Mapped[bytes]
    created_at: Mapped[float]


class SubjectKeyTable(KeysTable):
    """The key of one token, wrapped under that of an epoch."""

    __tablename__ = "subject_keys"

    token: Mapped[str] = mapped_column(String(32), primary_key=True)
    epoch: Mapped[str] = mapped_column(String(32), index=True)
    wrapped: Mapped[bytes]


class ErasedTable(KeysTable):
    """Tokens that were erased, to be erased again after a restore."""

    __tablename__ = "erased"

    token: Mapped[str] = mapped_column(String(32), primary_key=True)
    erasure_id: Mapped[str] = mapped_column(String(32))
    at: Mapped[float]


class KeyHolderTable(KeysTable):
    """Which keys the rows are under, so that others are noticed before harm is done."""

    __tablename__ = "key_holder"
    __table_args__ = (CheckConstraint("id = 1", name="single_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    fingerprint: Mapped[str] = mapped_column(String(64))
