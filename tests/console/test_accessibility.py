"""The page by the rules of axe: WCAG 2.1 at level AA, as far as a program can tell, in every state of the page."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from axe_core_python.selenium import Axe
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from broker import Broker
from detector.contract.alerts import Cause, Decision
from detector.core.drift import GAPS, REACHED, UNKNOWN, Reference, Tally, Watched
from detector.model.artifact import load_model, packaged_model_path
from detector.runtime.health import HealthServer, Heartbeat
from detector.runtime.metrics import DetectorMetrics
from tests.console.alerts import NOW_MS, alert, explainable
from tests.console.browser import DESKTOP, PHONE, chromium, missing, resize
from tests.console.conftest import TOKEN, Commit
from tests.console.serving import Console, console
from tests.machine import skip_without
from tests.waiting import PATIENCE_S, wait_for

pytestmark = [skip_without(missing()), pytest.mark.long]
_RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}}
_ALERTS = [
    alert("blocked", account_id="one"),
    alert("reviewed", decision=Decision.REVIEW, account_id="one"),
    alert("challenged", decision=Decision.CHALLENGE, account_id="one"),
    alert("denied", cause=Cause.DENY_LIST, scores=[]),
    alert("held back", decision=Decision.CHALLENGE, cause=Cause.CIRCUIT_BREAKER, scores=[]),
    explainable("explained", load_model(packaged_model_path("default"))),
]


def drift(metrics: DetectorMetrics, counts: Mapping[str, tuple[int, int]]) -> None:
    """Have a worker's drift count events of two bins."""
    assert metrics.drift._watching is not None
    arrays = {name: np.array(of) for name, of in counts.items()}
    metrics.drift._watching[1].add(NOW_MS, Tally(sum(next(iter(counts.values()))), arrays))


@pytest.fixture(scope="module")
def ill_worker() -> Iterator[str]:
    """A worker's metrics of which there is much to tell: an open breaker, not ready, drift, a challenger."""
    metrics = DetectorMetrics()
    metrics.assigned_partitions.set(2)
    metrics.breaker_open.labels("1").set(1)
    metrics.model.info({"name": "example", "version": "7", "sha256": "ab" * 32})
    metrics.shadow_model.info({"name": "next", "version": "8", "sha256": "cd" * 32})
    metrics.drift.watch(
        Watched(Reference({GAPS: (0.5, 0.5), UNKNOWN: (0.99, 0.01), REACHED: (0.9, 0.1)}, ()), 0.5),
        86_400_000,
    )
    drift(metrics, {GAPS: (20_000, 0), UNKNOWN: (0, 20_000), REACHED: (20_000, 0)})
    health = HealthServer("127.0.0.1", 0, metrics.registry, Heartbeat(), PATIENCE_S)
    yield f"http://127.0.0.1:{health.port}/metrics"
    health.close()


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(
    kafka: Broker,
    topic: str,
    commit: Commit,
    served: Console,
    ill_worker: str,
    tmp_path: Path,
    *,
    dark: bool,
) -> None:
    """The list, each kind of alert, the conditions and the sign-in, at both widths and in both colour schemes."""
    servers = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic", topic]
    commit(*_ALERTS)
    with (
        console([*servers, "--metrics-url", ill_worker], tmp_path / "open.log") as page,
        console(servers, tmp_path / "guarded.log", DETECTOR_CONSOLE_TOKEN=TOKEN) as guarded,
        chromium(tmp_path / "profile", dark=dark) as browser,
    ):
        fragments = ["", *(f"#alert={one.alert_id}" for one in _ALERTS), "#alert=none"]
        for size in (DESKTOP, PHONE):
            resize(browser, size)
            for fragment in fragments:
                browser.get("about:blank")
                browser.get(f"{page.url}/{fragment}")
                wait_for(
                    lambda: bool(browser.find_elements(By.CSS_SELECTOR, ".condition + .condition")),
                    "the conditions",
                )
                if fragment.startswith("#alert=") and fragment != "#alert=none":
                    wait_for(
                        lambda: bool(browser.find_elements(By.CSS_SELECTOR, ".share, .unexplained")),
                        "the explanation",
                    )
                browser.execute_script(
                    "document.querySelectorAll('details').forEach((one) => one.open = true)"
                )
                assert violations(browser) == [], (size, fragment)
            for url in (f"{guarded.url}/login", served.url):  # the latter is without workers
                browser.get(url)
                assert violations(browser) == [], (size, url)


def violations(browser: Chrome) -> list[str]:
    """Return what axe found, one line for each element."""
    found = Axe().run(browser, options=_RULES)
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
