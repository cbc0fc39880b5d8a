# SPDX-License-Identifier: Apache-2.0
"""The parts of the reference pages that say what the code says.

Tests hold the pages equal to these; to bring the pages up to date, run

    python -m tests.support.reference_pages
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr

PAGES = Path(__file__).parents[2] / "docs" / "reference"

EXIT_CODES = {
    "DONE": "done, also when some items failed",
    "CRITERIA_NOT_MET": "the run is done, but a criterion is not met, inconclusive or "
    "cannot be judged, or items of dead shards are missing; or the sanity gate "
    "stopped the audit",
    "USAGE": "bad usage, spec, model or data: mend the command or the file",
    "INTEGRITY": "evidence does not hold; `failures[].kind` says which",
    "INFRASTRUCTURE": "a server, store, device or file system is missing or refuses",
    "FAULT": "a fault of affidavit itself; `AFFIDAVIT_LOG_LEVEL=debug` shows where, "
    "please report it",
    "INTERRUPTED": "stopped by Ctrl-C or cancelled, at a batch boundary",
}

RUN_STATES = {
    "queued": "planned and stored; no shard has been claimed yet",
    "running": "at least one shard has been claimed",
    "finalising": "every shard is final; report and checkpoint are being written",
    "done": "every shard is done and the report is written",
    "incomplete": "finalised, but some shards are dead and their items missing; "
    "`retry` tries them again",
    "interrupted": "stopped by its user or by a failed server; `resume` goes on",
    "paused": "held by its user; `resume` goes on",
    "cancelled": "cancelled by its user; `resume` goes on all the same",
    "failed": "could not be set up or finalised; the run's error says why",
}


def exit_codes() -> str:
    """Return the table of exit codes."""
    from affidavit.exit_codes import ExitCode

    rows = [f"| {code.value} | {EXIT_CODES[code.name]} |" for code in ExitCode]
    return "\n".join(["| code | meaning |", "| --- | --- |", *rows])


def run_states() -> str:
    """Return the table of run states."""
    from storage.states import FINAL_RUN_STATES, RunState

    rows = [
        f"| `{state}` | {'yes' if state in FINAL_RUN_STATES else 'no'} | "
        f"{RUN_STATES[state]} |"
        for state in RunState
    ]
    header = ["| state | final | meaning |", "| --- | --- | --- |"]
    return "\n".join([*header, *rows])


def failure_kinds() -> str:
    """Return the list of kinds of integrity failure."""
    from ledger.failures import FailureKind

    return ", ".join(f"`{kind}`" for kind in FailureKind)


def commands() -> str:
    """Return every command with its arguments and options."""
    import typer.main

    from affidavit.cli.app import app

    parts = [
        _command(name, command)
        for name, command in sorted(_walk("affidavit", typer.main.get_command(app)))
    ]
    return "\n\n".join(parts)


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for word, inner in below.items():
        yield from _walk(f"{name} {word}", inner)


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    words = [str(p.metavar) for p in arguments]
    lines = [f"### `{' '.join([name, *words])}`", "", " ".join(command.help.split())]
    rows = [
        f"| `{word}` | {p.help} |" for p, word in zip(arguments, words, strict=True)
    ]
    rows += [f"| `{', '.join(p.opts)}` | {p.help} |" for p in options]
    if rows:
        lines += ["", "| argument or option | meaning |", "| --- | --- |", *rows]
    return "\n".join(lines)


def settings() -> str:
    """Return the table of settings."""
    from pipeline.settings import Settings

    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        secret = SecretStr in getattr(field.annotation, "__args__", ())
        note = " Never printed." if secret else ""
        rows.append(
            f"| `AFFIDAVIT_{name.upper()}` | {default} | {field.description}{note} |"
        )
    header = ["| variable | default | meaning |", "| --- | --- | --- |"]
    return "\n".join([*header, *rows])


def methods() -> str:
    """Return every method with its definition and its parameters."""
    from explain.methods.cards import METHODS

    parts = []
    for card in METHODS.values():
        facts = [
            f"`{card.name}`: {card.formula}.",
            f"Source: {card.source}.",
            f"Cost: {card.cost}. {_traits(card)}.",
            f"Does not show: {card.does_not_show}",
        ]
        parts.append("\n\n".join([f"### {card.title}", *facts]))
        if card.parameters:
            parts.append(_parameters(card.parameters))
    return "\n\n".join(parts)


def kinds() -> str:
    """Return every kind of items beside images, with its options."""
    from explain.methods.cards import METHODS
    from pipeline.kinds.cards import KIND_CARDS

    parts = []
    for card in KIND_CARDS.values():
        methods = [name for name, one in METHODS.items() if card.name in one.kinds]
        files = ", ".join(f"`model.{name}`" for name in card.files)
        listed = ", ".join(f"`{name}`" for name in methods)
        facts = [
            f"An item is one of {card.title}; its units are {card.map_kind}.",
            f"A closed gate shows {card.baseline}.",
            f"Sources: {_sources(card)}." + (f" Files: {files}." if files else ""),
            f"Methods: {listed}; by default `{card.default_method}`.",
        ]
        parts.append("\n\n".join([f"## `{card.name}`", *facts]))
        if card.options:
            parts.append(_parameters(card.options))
    return "\n\n".join(parts)


def _sources(card: Any) -> str:
    rows = ".jsonl whose lines are items"
    if card.column is not None:
        rows = (
            ".csv, .jsonl or .parquet whose rows are items, where"
            f" `data.columns.{card.column}` is given"
        )
    if not card.suffixes:
        return rows
    files = " and ".join(card.suffixes)
    return f"{rows}; a folder of {files}, or a manifest of such files"


def reasons() -> str:
    """Return every reason of an item, and why a metric's value may be absent."""
    from pipeline.reports.wording import ABSENCES, REASONS

    parts = []
    for title, sentences in (("Items", REASONS), ("Values", ABSENCES)):
        rows = [f"| `{code}` | {said} |" for code, said in sentences.items()]
        table = ["| code | meaning |", "| --- | --- |", *rows]
        parts.append(f"## {title}\n\n" + "\n".join(table))
    return "\n\n".join(parts)


def _traits(card: Any) -> str:
    sign = "Signed" if card.signed else "Never negative"
    layer = "taps a layer" if card.needs_layer else "taps no layer"
    size = "at their own resolution"
    if card.pixel_resolution:
        size = "pooled to at most `explain.grid` cells a side"
    return f"{sign}; {layer}; maps {size}"


def remedies() -> str:
    """Return every remedy with its definition and its parameters."""
    from explain.remedies.cards import REMEDIES

    parts = []
    for card in REMEDIES.values():
        facts = [
            f"Against: {card.against}",
            f"`{card.formula}`.",
            f"Source: {card.source}. Cost: {card.cost}.",
            f"Does not show: {card.does_not_show}",
        ]
        parts.append("\n\n".join([f"### {card.title}: `{card.name}`", *facts]))
        parts.append(_parameters(card.parameters))
    return "\n\n".join(parts)


def policies() -> str:
    """Return every policy with its rule and its parameters."""
    from explain.thresholds.cards import POLICIES

    parts = []
    for card in POLICIES.values():
        facts = [card.rule, f"Source: {card.source}.", f"Cost: {card.cost}."]
        parts.append("\n\n".join([f"### `{card.name}`", *facts]))
        if card.parameters:
            parts.append(_parameters(card.parameters))
    return "\n\n".join(parts)


def metrics() -> str:
    """Return every metric, family by family, with its card and its parameters."""
    from explain.metrics.cards import METRICS, Family

    parts = []
    for family in Family:
        parts.append(f"## {family.capitalize()}")
        for card in METRICS.values():
            if card.family is family:
                parts += _metric(card)
    return "\n\n".join(parts)


def _metric(card: Any) -> list[str]:
    document = card.document()
    rows = [
        f"| `{value}` | {document['directions'][value]} |"
        f" {_bounds(document['ranges'][value])} |"
        for value in card.values_for(complete=True)
    ]
    table = ["| value | direction | range |", "| --- | --- | --- |", *rows]
    cost = f"{document['forwards_per_item']} forward passes an item"
    if document["explanations_per_item"]:
        cost += f", {document['explanations_per_item']} of them whole explanations"
    fixed = "; ".join(
        f"{name.replace('_', ' ')}: {value}" for name, value in card.conventions.items()
    )
    facts = [
        f"`{card.formula}`.",
        f"Source: {card.source}. Baseline: {card.baseline}. Units: {card.units}.",
        f"Cost: {cost}." + (" Needs ground-truth masks." if card.needs_truth else ""),
        *([f"Conventions: {fixed}."] if fixed else []),
        f"Does not show: {card.does_not_show}",
    ]
    parts = [f"### `{card.name}`", "\n".join(table), *facts]
    return [*parts, _parameters(card.parameters)] if card.parameters else parts


def _bounds(bounds: list[float | None]) -> str:
    low, high = ("" if bound is None else f"{bound:g}" for bound in bounds)
    return f"{low or 'no limit'} to {high or 'no limit'}"


def profiles() -> str:
    """Return the ready-made choices of metrics, and what they cost an item."""
    from explain.metrics.cards import METRICS, PROFILES, cost_of, profile

    rows = []
    for name in PROFILES:
        chosen = profile(name, truth=True)
        cost = cost_of(chosen)
        listed = ", ".join(
            f"`{metric}`" + "".join(f" ({key} {v})" for key, v in given.items())
            for metric, given in chosen.items()
        )
        listed = "all" if len(chosen) == len(METRICS) else listed
        rows.append(f"| `{name}` | {cost.forwards} | {cost.explanations} | {listed} |")
    header = [
        "| profile | forward passes | explanations | metrics |",
        "| --- | --- | --- | --- |",
    ]
    return "\n".join([*header, *rows])


def _parameters(parameters: Any) -> str:
    rows = []
    for name, parameter in parameters.items():
        default = "required"
        if parameter.default is not None:
            # As YAML has it: lists in brackets, true and false.
            default = f"`{json.dumps(parameter.document()['default'])}`"
        rows.append(
            f"| `{name}` | {default} | {parameter.meaning};"
            f" {parameter.range_in_words()} |"
        )
    header = ["| parameter | default | meaning |", "| --- | --- | --- |"]
    return "\n".join([*header, *rows])


def rights() -> str:
    """Return the table of rights, who has each, and which need a purpose."""
    from pipeline.access.policy import NEEDS_PURPOSE, RIGHTS, Right

    rows = [
        f"| `{right}` | {', '.join(r for r, has in RIGHTS.items() if right in has)} | "
        f"{'yes' if right in NEEDS_PURPOSE else 'no'} |"
        for right in Right
    ]
    header = ["| right | roles | purpose needed |", "| --- | --- | --- |"]
    return "\n".join([*header, *rows])


#: Page and the name of a part of it, to what makes the part.
PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("cli.md", "commands"): commands,
    ("cli.md", "rights"): rights,
    ("cli.md", "exit codes"): exit_codes,
    ("cli.md", "run states"): run_states,
    ("cli.md", "failure kinds"): failure_kinds,
    ("kinds.md", "kinds"): kinds,
    ("methods.md", "methods"): methods,
    ("methods.md", "remedies"): remedies,
    ("metrics.md", "metrics"): metrics,
    ("metrics.md", "profiles"): profiles,
    ("policies.md", "policies"): policies,
    ("reasons.md", "reasons"): reasons,
    ("settings.md", "settings"): settings,
}


def part_of(page: str, name: str) -> str:
    """Return what stands in the page between the marks of that part."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = re.search(_marked(name), text, re.DOTALL)
    if found is None:
        raise AssertionError(f"{page} has no part called {name!r}")
    return found[1]


def _marked(name: str) -> str:
    return f"<!-- {name}, from the code -->\n(.*?)\n<!-- end -->"


def main() -> None:
    """The pages have their parts as the code has them."""
    for (page, name), make in PARTS.items():
        path = PAGES / page
        mark = f"<!-- {name}, from the code -->\n{make()}\n<!-- end -->"
        text = path.read_text(encoding="utf-8")
        changed = re.sub(_marked(name), lambda _, new=mark: new, text, flags=re.DOTALL)
        path.write_text(changed, encoding="utf-8")


if __name__ == "__main__":
    main()
