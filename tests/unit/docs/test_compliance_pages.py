# SPDX-License-Identifier: Apache-2.0
"""What docs/compliance says of tests is so, and it claims no more than evidence."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted((ROOT / "docs/compliance").glob("*.md"))
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_test_that_a_page_names_exists(page: Path) -> None:
    """A mapping that names a test which is gone, or was renamed, is caught."""
    for file, name in _NAMED.findall(page.read_text()):
        tree = ast.parse((ROOT / file).read_text())
        functions = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert name in functions, f"{file}::{name}"


@pytest.mark.parametrize("name", ["hipaa.md", "gdpr.md", "threat-model.md"])
def test_each_line_of_a_mapping_names_a_test(name: str) -> None:
    """A requirement without a test is no line of the table."""
    text = (ROOT / "docs/compliance" / name).read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(lines) >= 10
    for line in lines:
        last = line.strip("| ").rpartition(" | ")[2]
        named = _NAMED.findall(last)
        # Nothing but names of tests, so that a misspelt one is not read as prose.
        assert named, line
        assert _NAMED.sub("", last).strip(" ,") == "", line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_test_that_a_page_names_is_run(page: Path) -> None:
    """Evidence is a test that passes: none of them is skipped or expected to fail."""
    for file, name in _NAMED.findall(page.read_text()):
        tree = ast.parse((ROOT / file).read_text())
        marks = [
            ast.unparse(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)
        ]
        marks += [
            ast.unparse(decorator)
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name == name
            for decorator in node.decorator_list
        ]
        # `data` needs a folder that not everybody has.
        odd = [mark for mark in marks if re.search(r"skip|xfail|mark\.data\b", mark)]
        assert odd == [], f"{file}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_claims_more_than_evidence(page: Path) -> None:
    """The word is `produces evidence for`; nothing here is called compliant."""
    assert "compliant" not in page.read_text().lower()
