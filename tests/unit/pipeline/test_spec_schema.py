# SPDX-License-Identifier: Apache-2.0
"""The published JSON Schema is that of the code."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.spec_schema import spec_schema
from pipeline.spec_template import TEMPLATE

PUBLISHED = Path(__file__).parents[3] / "docs/reference/audit-spec.schema.json"


def test_the_published_schema_is_current() -> None:
    """The file in the reference equals what the code gives."""
    assert json.loads(PUBLISHED.read_text("utf-8")) == spec_schema()


def test_the_schema_accepts_the_template_and_refuses_other_keys() -> None:
    """An editor that checks with the schema judges as the program does."""
    validator = jsonschema.Draft202012Validator(spec_schema())
    data = yaml.safe_load(TEMPLATE)
    validator.validate(data)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**data, "explian": {}})
