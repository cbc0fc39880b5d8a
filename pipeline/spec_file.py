# SPDX-License-Identifier: Apache-2.0
"""Reading an audit spec from its file, with every mistake named by its line."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.criteria import parse_criterion
from pipeline.errors import SpecError
from pipeline.spec import AuditSpec, SpecSection
from pipeline.spec_problems import sentences
from pipeline.spec_yaml import MAX_CHARACTERS, Document, YamlError, read_document

_MAX_BYTES = 4 * MAX_CHARACTERS


def load_spec(path: Path) -> AuditSpec:
    """Return the audit that the file declares.

    Raises:
        SpecError: the file cannot be read, or is wrong; one line a problem.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise SpecError(
            f"The spec {str(path)!r} cannot be read ({exc.strerror}); give the path of"
            " a YAML file, or make one with `affidavit init`."
        ) from exc
    if len(data) > _MAX_BYTES:
        raise SpecError(f"{path}:1: the file has more than a million characters.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise SpecError(f"{path}:{line}: the file is not UTF-8 here.") from exc
    return parse_spec(text, str(path))


def parse_spec(text: str, name: str = "spec") -> AuditSpec:
    """Return the audit that the YAML text declares; `name` is what messages call it.

    Raises:
        SpecError: the text is wrong; the message has one line a problem, each opening
            with `name:line:`.
    """
    try:
        document = read_document(text)
    except YamlError as exc:
        raise SpecError(f"{name}:{exc.line}: {exc.sentence}.") from exc
    problems = [(line, f"{sentence}.") for line, sentence in document.problems]
    if not isinstance(document.data, dict):
        got = "nothing" if document.data is None else "something else"
        problems.append(
            (1, f"expected sections such as `model:` and `data:`, got {got}.")
        )
        raise _spec_error(problems, name)
    _fill_empty_sections(document.data)
    problems += _criteria_problems(document)
    try:
        # Strict, so that values never change; from JSON, so that lists make tuples.
        spec = AuditSpec.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as exc:
        problems += sentences(exc.errors(include_url=False), document)
        raise _spec_error(problems, name) from exc
    if problems:
        raise _spec_error(problems, name)
    return spec


def _fill_empty_sections(data: dict[str, Any]) -> None:
    """A section of which every line is a comment is an empty section, not null."""
    for key, field in AuditSpec.model_fields.items():
        section = field.annotation
        if (
            isinstance(section, type)
            and issubclass(section, SpecSection)
            and key in data
            and data[key] is None
        ):
            data[key] = {}


def _criteria_problems(document: Document) -> list[tuple[int, str]]:
    problems = []
    criteria = document.data.get("criteria")
    for index, text in enumerate(criteria if isinstance(criteria, list) else ()):
        if isinstance(text, str):
            try:
                parse_criterion(text)
            except SpecError as exc:
                line = document.line_of(("criteria", index))
                problems.append((line, f"criteria[{index}]: {exc}"))
    return problems


def _spec_error(problems: list[tuple[int, str]], name: str) -> SpecError:
    lines = [f"{name}:{line}: {sentence}" for line, sentence in sorted(set(problems))]
    return SpecError("\n".join(lines))
