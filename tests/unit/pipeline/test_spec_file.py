# SPDX-License-Identifier: Apache-2.0
"""A spec is read as it is written, and every mistake is named with its line."""

import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.errors import SpecError
from pipeline.spec import AuditSpec, DataSpec, ModelSpec, ThresholdSpec
from pipeline.spec_file import load_spec, parse_spec
from pipeline.spec_template import TEMPLATE

SMALL = "audit: a\nmodel: {source: torchvision:resnet18}\ndata: {source: photos}\n"


def problems(text: str) -> list[str]:
    """Return the lines of the error that the text gives."""
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "f.yaml")
    return str(caught.value).splitlines()


def test_a_small_spec_takes_the_defaults() -> None:
    """Only three keys must be written."""
    expected = AuditSpec(
        audit="a",
        model=ModelSpec(source="torchvision:resnet18"),
        data=DataSpec(source="photos"),
    )
    assert parse_spec(SMALL) == expected


def test_the_template_is_a_valid_spec_with_the_defaults() -> None:
    """What `init` writes is accepted, and its values are the defaults it claims."""
    spec = parse_spec(TEMPLATE, "audit.yaml")
    defaults = AuditSpec(
        audit="photos",
        model=ModelSpec(
            source="torchvision:resnet50",
            weights="weights.safetensors",
            classes="imagenet",
        ),
        data=DataSpec(source="photos/"),
        threshold=ThresholdSpec(keep=0.10),
        metrics=["deletion", "insertion", "confidence_retained"],
    )
    assert spec == defaults


def test_the_template_shows_every_key() -> None:
    """No key of the spec is missing from the template."""
    written = parse_spec(TEMPLATE).model_dump(exclude_unset=True)

    def missing(full: dict[str, object], shown: dict[str, object]) -> list[str]:
        found = [key for key in full if key not in shown]
        for key, value in full.items():
            if isinstance(value, dict) and key in shown:
                found += missing(value, shown[key])
        return found

    assert missing(parse_spec(TEMPLATE).model_dump(), written) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "audit: a\nmodel:\n  source: x\ndata:\n  sorce: y\n",
            "f.yaml:5: there is no key 'sorce' in the section 'data'; did you mean 's",
        ),
        (SMALL + "explian: {}\n", "f.yaml:4: there is no key 'explian' at the top;"),
        ("audit: a\ndata: {source: x}\n", "f.yaml:1: the section 'model' is missing."),
        (
            SMALL.replace("data: {", "data: {labels: auto}#"),
            "f.yaml:3: the key 'source'",
        ),
        (
            SMALL + "run:\n  seed: 1\n  batch_size: many\n",
            "f.yaml:6: run.batch_size: expected a whole number, or auto, got the text ",
        ),
        (
            SMALL + "run: {seed: true}\n",
            "f.yaml:4: run.seed: expected a whole number, got true.",
        ),
        (
            SMALL + "threshold: {keep: 1.5}\n",
            "f.yaml:4: threshold.keep: must be at most 1.0, got the number 1.5.",
        ),
        (
            SMALL.replace("audit: a", "audit: Röntgen"),
            "f.yaml:1: audit: expected a name of ASCII letters, digits,",
        ),
        (
            SMALL.replace("audit: a", "audit: 7"),
            "f.yaml:1: audit: expected text, got the number 7; put it in quotes.",
        ),
        (
            SMALL.replace("resnet18", "resnet18, preprocess: {interpolation: bilnear}"),
            "f.yaml:2: model.preprocess.interpolation: expected one of nearest, bili",
        ),
        (
            SMALL.replace("resnet18", "resnet18, preprocess: {mean: [0.5, 0.5]}"),
            "f.yaml:2: model.preprocess: mean and std need one value each",
        ),
        (
            SMALL.replace("photos", f"photos, columns: {{groups: [{'g' * 151}]}}"),
            "f.yaml:3: data.columns.groups[0]: expected at most 150 characters",
        ),
        (
            SMALL.replace("resnet18", "resnet18, classes: [cat, 3]"),
            "f.yaml:2: model.classes[1]: expected text, got the number 3; put it in",
        ),
        (
            SMALL + "criteria:\n- deletion_auc.mean <= 0.4\n- deletion_auc.maen <= 1\n",
            "f.yaml:6: criteria[1]: 'deletion_auc.maen <= 1' names the aggregate",
        ),
        (
            SMALL + "metrics: deletion\n",
            "f.yaml:4: metrics: expected a list of metrics, or one of quick, full,",
        ),
        (
            SMALL + "metrics: [{name: max_sensitivity, sample: 3}]\n",
            "f.yaml:4: metrics: metric 'max_sensitivity' has no parameter 'sample';",
        ),
        (
            SMALL + "metrics: [deletion, {radius: 0.1}]\n",
            "f.yaml:4: metrics: expected the name of a metric under the key 'name'",
        ),
        (SMALL + "schedule: daily\n", "f.yaml:4: schedule: expected a section of `key"),
        (
            SMALL + "schedule: {cron: 0 0 31 2 *}\n",
            "f.yaml:4: schedule: the cron expression '0 0 31 2 *' names no date",
        ),
        (
            SMALL + "schedule: {cron: '@daily', timezone: Europe/Berln}\n",
            "f.yaml:4: schedule: there is no time zone 'Europe/Berln'; did you mean E",
        ),
        (SMALL + "run: {device: gpu}\n", "f.yaml:4: run.device: expected auto, cpu,"),
        (
            SMALL + "audit: b\n",
            "f.yaml:4: the key 'audit' is given twice (first in line",
        ),
        (SMALL + "x: [\n", "f.yaml:5: not valid YAML:"),
        (SMALL + "a: &a [1]\nb: *a\n", "f.yaml:5: aliases"),
        (SMALL + "run: {<<: {seed: 1}}\n", "f.yaml:4: merging"),
        (SMALL + "run: !!python/object:os.system {}\n", "f.yaml:4:"),
        (SMALL + "run: {seed: 010}\n", "f.yaml:4: run.seed: expected a whole number"),
        (SMALL + "run: {seed: 12:30}\n", "f.yaml:4: run.seed: expected a whole number"),
        (SMALL + "threshold: {keep: .nan}\n", "f.yaml:4: threshold.keep: expected a"),
        (
            SMALL + "threshold: {keep: 1e999}\n",
            "f.yaml:4: the number 1e999 is too large",
        ),
        (SMALL + "run: 5\n", "f.yaml:4: run: expected a section"),
        (SMALL + "---\n" + SMALL, "f.yaml:4: not valid YAML:"),
        (SMALL + '"\\0": 1\n', "f.yaml:4: a key holds a character"),
        (SMALL + "b\x01: 1\n", "f.yaml:4: a character in this line"),
        ("", "f.yaml:1: expected sections such as"),
        ("- a\n", "f.yaml:1: expected sections such as"),
    ],
)
def test_each_mistake_has_one_sentence(text: str, expected: str) -> None:
    """Every mistake gives a line that opens with its place and says what to do."""
    found = problems(text)
    assert [line for line in found if line.startswith(expected)], found
    assert all(line.startswith("f.yaml:") for line in found)


def test_a_misspelt_choice_names_the_nearest() -> None:
    """A value from a fixed list is answered with the list and the nearest of it."""
    assert problems(SMALL + "privacy: {gallery: image}\n") == [
        (
            "f.yaml:4: privacy.gallery: expected one of images, maps, none, got the"
            " text 'image'; did you mean 'images'."
        )
    ]


def test_all_mistakes_are_named_at_once() -> None:
    """Nobody should have to mend a spec one run at a time."""
    text = SMALL + "run: {batch_size: 0, sed: 1}\nthreshold: {keep: all}\n"
    assert [line.split(": ")[0] for line in problems(text)] == [
        *("f.yaml:4", "f.yaml:4", "f.yaml:5")
    ]


def test_yaml_surprises_do_not_change_values() -> None:
    """Dates stay text, exponents are numbers, and an empty section is empty."""
    text = "audit: 2026-11-23\nmodel: {source: x}\ndata: {source: on.csv}\nrun:\n"
    spec = parse_spec(text + "threshold: {keep: 1e-1}\n")
    assert spec.audit == "2026-11-23"
    assert spec.threshold.keep == 0.1


def test_bombs_are_refused_quickly() -> None:
    """Depth and length are bounded before the text is taken apart."""
    started = time.perf_counter()
    assert "levels deep" in problems("[" * 100_000)[0]
    assert "million" in problems("a" * 1_000_001)[0]
    assert time.perf_counter() - started < 5


JUNK_LINES = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from([*SMALL.splitlines(), *TEMPLATE.splitlines()]),
        st.sampled_from(["run: {", "- [", "? x", "!!int a", "&a *a", "'", "\t:", "%Y"]),
        st.builds(
            "{}: {}".format,
            st.sampled_from([*AuditSpec.model_fields, "source", "  seed"]),
            st.text(max_size=10),
        ),
    ),
    max_size=12,
)


@settings(max_examples=400, deadline=None)
@given(lines=JUNK_LINES)
@example(lines=["? [a]", ": b"])
@example(lines=["{a: [}"])
def test_junk_is_a_spec_error(lines: list[str]) -> None:
    """Whatever the text is, the answer is a spec or a SpecError."""
    try:
        parse_spec("\n".join(lines))
    except SpecError:
        return


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(), max_size=200))
def test_any_text_is_a_spec_error(text: str) -> None:
    """Surrogates, controls and half a YAML construct are answered in a sentence."""
    with pytest.raises(SpecError):
        parse_spec(text)


def test_a_file_is_read_like_its_text(tmp_path: Path) -> None:
    """A byte order mark is no part of the spec, and messages name the file."""
    file = tmp_path / "audit.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert load_spec(file) == parse_spec(SMALL)
    file.write_text(SMALL + "explian: {}\n")
    with pytest.raises(SpecError, match=r"audit\.yaml:4: "):
        load_spec(file)


def test_an_unreadable_file_is_a_spec_error(tmp_path: Path) -> None:
    """A missing file, a folder, another encoding and a huge file are told apart."""
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"audit: a\nmodel: \xe9\n")
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(10**9)
    for path, message in [
        (tmp_path / "none.yaml", "affidavit init"),
        (tmp_path, "cannot be read"),
        (latin, r"latin\.yaml:2: the file is not UTF-8"),
        (huge, "million"),
    ]:
        with pytest.raises(SpecError, match=message):
            load_spec(path)
