"""The alert rules ask for what the detector exposes, and each has its case and its entry in the runbook."""

import re
from typing import Any

import pytest
import yaml

from detector.runtime.config import DetectorConfig
from tests.deploy.compose import ROOT
from tests.deploy.test_dashboard import ADDED, exposed, metrics_in

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]
CASES = yaml.safe_load((ROOT / "tests/deploy/alert_rules.yml").read_text(encoding="utf-8"))["tests"]
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_rules_name_series_and_labels_that_exist(rule: dict[str, Any]) -> None:
    """A rule over a series or label that nobody exposes would never fire."""
    known, expr = exposed(), rule["expr"]
    used = metrics_in(expr)
    assert used <= set(known)
    assert used or rule["alert"] in {"DetectorDown", "RelayDown"}
    available = ADDED.union(*(known[name] for name in used))
    grouped = {one.strip() for by in re.findall(r"by \(([^)]*)\)", expr) for one in by.split(",")}
    assert grouped | set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expr)) <= available


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_rules_lead_to_their_entry_in_the_runbook(rule: dict[str, Any]) -> None:
    """Whoever is woken is told what it means, where to look and what to do, under the alert's own name."""
    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
    entry = RUNBOOK.split(f"\n## {rule['alert']}\n")[1].split("\n## ")[0]
    assert f"Severity {rule['labels']['severity']}" in entry
    assert all(part in entry for part in ("**What it means:**", "**Look at:**", "**Do:**"))


def test_every_rule_has_a_case_that_fires_and_one_that_does_not() -> None:
    """The cases that promtool runs cover every rule both ways, and no rule that is gone."""
    fires: set[str] = set()
    silent: set[str] = set()
    for case in CASES:
        for expected in case["alert_rule_test"]:
            (fires if expected["exp_alerts"] else silent).add(expected["alertname"])
    assert fires == silent == set(NAMES)
    assert len(NAMES) == len(set(NAMES))


def test_the_rule_of_held_partitions_knows_their_number() -> None:
    """It counts up to the partitions that the detector creates the input with."""
    (rule,) = (rule for rule in RULES if rule["alert"] == "DetectorPartitionsUnheld")
    assert rule["expr"] == f"sum(detector_assigned_partitions) < {DetectorConfig().partitions}"


def test_prometheus_loads_the_rules() -> None:
    """The compose stack's Prometheus has them: its configuration, the folder mounted, names the file."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    assert config["rule_files"] == ["alerts.yml"]
