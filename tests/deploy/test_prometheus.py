"""Prometheus itself takes the rules and the dashboard's queries, and sees a real detector through them."""

from contextlib import closing
from pathlib import Path

import pytest

from broker import Broker
from detector.contract.verdicts import encode_verdict
from detector.model.artifact import packaged_model_path
from tests.conftest import UniqueName
from tests.deploy.prometheus import missing, prometheus, promtool
from tests.deploy.test_alert_rules import NAMES
from tests.deploy.test_dashboard import QUERIES
from tests.machine import skip_without
from tests.runtime.stack import Stack, metrics_address
from tests.runtime.test_guard_rails import sessions, write_bad_model
from tests.runtime.test_model_watch import put
from tests.runtime.test_verdicts import publish, relay, verdict
from tests.waiting import wait_for

pytestmark = [skip_without(missing()), pytest.mark.long]
LOADED = 'sum(increase(detector_model_reloads_total{outcome="loaded"}[5m]))'
SHOWN = [
    'sum(rate(detector_events_total{outcome="dead_letter"}[1m]))',
    'sum(increase(detector_alerts_total{decision="BLOCK"}[5m]))',
    'sum(increase(detector_alerts_total{decision="CHALLENGE"}[5m]))',
    LOADED,
    'sum(increase(detector_model_reloads_total{outcome="refused"}[5m]))',
    "sum(increase(detector_breaker_trips_total[5m]))",
    "sum(detector_shadow_scores_total)",
    "sum(detector_relay_verdicts_total)",
    "sum(detector_verdicts_total)",
]
"""What must have been seen to be above nothing."""


def test_promtool_takes_the_files() -> None:
    """Configuration and rules are valid, lint included."""
    promtool("check", "config", "deploy/prometheus/prometheus.yml")
    assert f"{len(NAMES)} rules found" in promtool(
        "check", "rules", "--lint=all", "--lint-fatal", "deploy/prometheus/alerts.yml"
    )


def test_the_rules_fire_when_they_should() -> None:
    """Every case, series in and alerts out, comes out as written: each rule fires, and stays silent."""
    promtool("test", "rules", "tests/deploy/alert_rules.yml")


def test_prometheus_sees_a_bad_model_and_its_end(
    kafka: Broker, unique_name: UniqueName, tmp_path: Path
) -> None:
    """A breaker that opens is an alert until it closes; every query answers, every rule is evaluated without error.

    The rules are the project's, unchanged. A model that wants to block everybody, dead letters, a refused model
    file, then a sound one; a verdict and what is none; at last worker and relay go.
    """
    model, data = tmp_path / "model.onnx", tmp_path / "prometheus"
    write_bad_model(model)
    bad, good = model.read_bytes(), packaged_model_path("seed").read_bytes()
    data.mkdir()
    stack = Stack(kafka.bootstrap_servers, unique_name("monitored"), tmp_path, partitions=1, metrics_port=0)
    tried = tmp_path / "rules.toml"
    tried.write_text("[[rule]]\nname = 'on trial'\nwhen = 'score > 0.5'\nthen = 'REVIEW'\n")
    arguments = (
        "--model",
        str(model),
        "--model-watch-ms",
        "100",
        "--shadow-model",
        "seed",
        "--rules",
        str(tried),
    )
    relaying = relay(stack.config, tmp_path / "relay.log", "--metrics-port", "0")
    with (
        closing(relaying),
        stack.worker(*arguments) as worker,
        prometheus(data, detector=metrics_address(worker), relay=metrics_address(relaying)) as seen,
    ):
        wait_for(
            lambda: seen.value("sum(detector_assigned_partitions)") == 1, "a worker that holds its partition"
        )
        stack.publish([*sessions(0, 200), *((b"s", b"no event") for _ in range(100))])
        seen.wait_until("DetectorBreakerOpen", "firing")
        seen.wait_until("DetectorDeadLetters", "pending")
        publish(stack.config, [(b"k", encode_verdict(verdict(1))), (b"k", b"no verdict")])
        seen.wait_until("RelayRefuses", "firing")

        put(model, bad[:-100])
        seen.wait_until("DetectorModelRefused", "firing")
        put(model, good)
        wait_for(lambda: seen.value(LOADED) > 0, "the good model")
        stack.publish(sessions(200, 1_000))
        seen.wait_until("DetectorBreakerOpen", "inactive")

        for _, expr in QUERIES:
            found = seen.query(expr.replace("$__rate_interval", "1m").replace("$__range", "5m"))
            # This model reads no fields of events, so none can be absent.
            assert bool(found) == ("detector_absent_fields_total" not in expr), expr
        for expr in SHOWN:
            assert seen.value(expr) > 0, expr
        assert worker.terminate() == relaying.terminate() == 0
        for name in ("DetectorDown", "RelayDown"):
            seen.wait_until(name, "pending")
        rules = seen.rules()
    healths = {name: (rule["health"], rule.get("lastError", "")) for name, rule in rules.items()}
    assert healths == dict.fromkeys(NAMES, ("ok", ""))
