# SPDX-License-Identifier: Apache-2.0
"""Alert rules and dashboard ask for metrics that are there, and the page knows them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from storage.engine import create_engine
from storage.schema import upgrade
from workers.app import COMPUTE_QUEUES, CONTROL_QUEUE
from workers.fleet_metrics import FleetCollector
from workers.metrics import HINTS, OUTCOMES, WorkerMetrics

CHECKOUT = Path(__file__).parents[3]
FOLDER = CHECKOUT / "deploy/monitoring"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text())
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the labels of each series that a control worker serves."""
    url = f"sqlite:///{tmp_path_factory.mktemp('metrics') / 'a.db'}"
    upgrade(url, actor="cli/test")
    engine = create_engine(url)
    metrics = WorkerMetrics()
    metrics.introduce("control", "0.1.0")
    metrics.registry.register(FleetCollector(engine))
    found: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    engine.dispose()
    return found


def _asked() -> Iterator[tuple[str, str]]:
    for expression in EXPRESSIONS:
        for name in re.findall(r"\baffidavit_\w+", expression):
            yield expression, name


@pytest.mark.parametrize(("expression", "name"), sorted(set(_asked())))
def test_what_is_asked_for_is_served(
    expression: str, name: str, samples: dict[str, set[str]]
) -> None:
    """Each metric in a rule or panel is exported, with the labels that are used."""
    assert name in samples
    labels = set(re.findall(r'(\w+)="', expression))
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        labels |= set(re.split(r",\s*", group))
    assert labels <= set().union(*samples.values()) | {"instance"}


def test_values_of_labels_in_rules_are_ours() -> None:
    """No rule waits for an outcome, hint or state that is never told."""
    told = {*OUTCOMES, *HINTS, "dead", "failed"}
    for expression in EXPRESSIONS:
        assert set(re.findall(r'="(\w+)"', expression)) <= told


def test_the_age_of_the_oldest_shard_is_the_first_alert() -> None:
    """What a person on call sees first is that work waits."""
    assert "affidavit_oldest_pending_shard_age_seconds" in RULES[0]["expr"]


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_each_alert_has_its_place_on_the_page(rule: dict[str, Any]) -> None:
    """docs/operations.md tells what each alert means and what to type."""
    page = (CHECKOUT / "docs/operations.md").read_text(encoding="utf-8")
    _, found, rest = page.partition(f"### {rule['alert']}\n\n")
    assert found
    meaning, *commands = re.split(r"\n##", rest)[0].strip().split("\n\n")
    assert len(meaning) > 60
    assert any(block.startswith("    ") for block in commands), "nothing to type"
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]


def test_the_page_describes_no_alert_that_does_not_exist() -> None:
    """Headings of alerts on the page are alerts of the rules."""
    page = (CHECKOUT / "docs/operations.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^### (Affidavit\w+)$", page, re.MULTILINE))
    assert described == {rule["alert"] for rule in RULES}


def test_prometheus_looks_at_every_kind_of_worker() -> None:
    """Each worker of the compose file is scraped on the port that it serves."""
    compose = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (found,) = config["scrape_configs"][0]["dns_sd_configs"]
    workers = {name for name in compose["services"] if "worker" in name}
    assert set(found["names"]) == workers
    for name in workers:
        given = compose["services"][name]["environment"]
        assert given["AFFIDAVIT_METRICS_PORT"] == str(found["port"])


def test_each_queue_is_told_even_without_workers(samples: dict[str, set[str]]) -> None:
    """An alert on missing workers compares with a zero that is there."""
    assert {"queue", "device"} <= samples["affidavit_live_workers"]
    assert {*COMPUTE_QUEUES, CONTROL_QUEUE} == {"gpu", "cpu", "control"}
