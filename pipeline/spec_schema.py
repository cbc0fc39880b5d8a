# SPDX-License-Identifier: Apache-2.0
"""The spec's JSON Schema, for editors and for the reference."""

from typing import Any

from pipeline.spec import AuditSpec


def spec_schema() -> dict[str, Any]:
    """Return the JSON Schema of an audit spec (draft 2020-12)."""
    schema = AuditSpec.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
