# SPDX-License-Identifier: Apache-2.0
"""Alembic migrations of the SQL schema, one set for PostgreSQL and SQLite.

Version files import nothing of the application, so that an old migration keeps doing
what it did when it was written.
"""
