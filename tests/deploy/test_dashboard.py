"""The dashboard shows what the detector exposes: every metric and label in its queries exists."""

import itertools
import json
import re
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from detector.runtime.metrics import DetectorMetrics, RelayMetrics
from tests.deploy.compose import ROOT, environment_of, services

FOLDER = ROOT / "deploy" / "grafana"
DASHBOARD = json.loads((FOLDER / "dashboards/session-fraud-detector.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "gauge": ("",),
    "info": ("_info",),
}
ADDED = {"le", "instance", "job"}
"""Labels that histograms and Prometheus add."""


def exposed() -> dict[str, set[str]]:
    """Return the names of the detector's series and of its relay's, each with the labels it declares, from their registries."""
    both = DetectorMetrics(), RelayMetrics()
    declared = itertools.chain(*(vars(one).values() for one in both), *(one.lags for one in both))
    labels = {one._name: set(one._labelnames) for one in declared if isinstance(one, MetricWrapperBase)}
    for one in ("detector_model", "detector_shadow_model"):
        labels[one] = {"name", "version", "sha256"}  # an Info's labels are given with its value
    return {
        family.name + suffix: labels.get(family.name, set(getattr(family, "_labelnames", ())))
        for family in itertools.chain(*(one.registry.collect() for one in both))
        for suffix in SUFFIXES[family.type]
    }


def metrics_in(expr: str) -> set[str]:
    """Return the names of the detector's series in a query."""
    return set(re.findall(r"\bdetector_\w+", expr))


@pytest.mark.parametrize(("title", "expr"), QUERIES)
def test_queries_name_series_and_labels_that_exist(title: str, expr: str) -> None:
    """A query of a series or label that nobody exposes would show nothing, and look like peace."""
    known = exposed()
    used = metrics_in(expr)
    assert used <= set(known), title
    assert used or expr == 'sum(up{job="detector"})'
    available = ADDED.union(*(known[name] for name in used))
    grouped = [one.strip() for by in re.findall(r"by \(([^)]*)\)", expr) for one in by.split(",")]
    matched = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expr)
    assert set(grouped) | set(matched) <= available, title


@pytest.mark.parametrize(("title", "expr"), QUERIES)
def test_counters_are_shown_as_rates(title: str, expr: str) -> None:
    """A counter's value says nothing across restarts: it stands in a rate or an increase, over Grafana's interval.

    Restores are the exception: they come before the first scrape, so a rate would not see them.
    """
    for name in metrics_in(expr) - {"detector_restore_seconds_bucket"}:
        if name.endswith(("_total", "_bucket", "_sum", "_count")):
            inside = rf"(rate|increase)\({name}(\{{[^}}]*\}})?\[\$__(rate_interval|range)\]\)"
            assert re.search(inside, expr), title


def test_every_metric_is_shown() -> None:
    """Whatever the detector exposes has its place, but for the scores' count, which the scored events are."""
    families = {re.sub("_(total|bucket|sum|count)$", "", name) for name in exposed()}
    shown = {
        re.sub("_(total|bucket|sum|count)$", "", name) for _, expr in QUERIES for name in metrics_in(expr)
    }
    assert families - shown == {"detector_scores"}


def test_legends_name_labels_that_the_query_keeps() -> None:
    """A legend of a label that was summed away would be empty."""
    for panel in PANELS:
        for target in panel["targets"]:
            kept = {
                one.strip() for by in re.findall(r"by \(([^)]*)\)", target["expr"]) for one in by.split(",")
            }
            if "by (" not in target["expr"]:
                kept = ADDED
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, panel["title"]


def test_panels_are_explained_and_have_units() -> None:
    """Each panel has a title of its own, says what it shows, and in which unit."""
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_panels_do_not_overlap() -> None:
    """Grafana's grid is 24 wide; no two panels share a cell, and no two an id."""
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for grid in [panel["gridPos"]]
        for x, y in itertools.product(
            range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"])
        )
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_grafana_finds_the_data_source_and_the_dashboard() -> None:
    """The panels name the provisioned data source, and the folders in the provisioning are the mounted ones."""
    sources = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yml").read_text(encoding="utf-8"))
    (source,) = sources["datasources"]
    used = [panel["datasource"] for panel in PANELS]
    used += [target["datasource"] for panel in PANELS for target in panel["targets"]]
    assert all(one == {"type": source["type"], "uid": source["uid"]} for one in used)
    assert source["url"] == "http://prometheus:9090"

    providers = yaml.safe_load(
        (FOLDER / "provisioning/dashboards/dashboards.yml").read_text(encoding="utf-8")
    )
    (provider,) = providers["providers"]
    mounts = dict(one.split(":")[:2] for one in services()["grafana"]["volumes"])
    folder = provider["options"]["path"]
    assert mounts["./deploy/grafana/dashboards"] == folder
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = environment_of("grafana")["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (FOLDER / "dashboards" / home.removeprefix(f"{folder}/")).exists()


def test_nobody_can_log_in_to_grafana() -> None:
    """There is no password, so none is left at its default: everybody on this machine may look, and only look."""
    environment = environment_of("grafana")
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert not [name for name in environment if "PASSWORD" in name]
