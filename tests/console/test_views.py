"""What the address names, in a real Chromium: a link opens the same view, and Back and Forward go through the views."""

from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

from broker import Broker
from detector.contract.alerts import Cause, Decision, ModelReference
from detector.core.drift import GAPS, REACHED, UNKNOWN, Reference, Watched
from detector.runtime.config import DetectorConfig
from detector.runtime.health import HealthServer, Heartbeat
from detector.runtime.metrics import DetectorMetrics
from detector.runtime.verdicts import publish_verdict
from tests.conftest import CreateTopic, UniqueName
from tests.console.alerts import NOW_MS, alert, publish
from tests.console.browser import complaints, missing
from tests.console.conftest import Commit
from tests.console.looking import choose, find, open_alert, shown, shows, text, texts
from tests.console.serving import Console, console
from tests.console.test_accessibility import drift
from tests.console.test_judged import verdict
from tests.console.test_page import MARKUP
from tests.machine import skip_without
from tests.waiting import PATIENCE_S, wait_for

pytestmark = [skip_without(missing()), pytest.mark.long]


def named(page: Chrome) -> dict[str, str]:
    """Return what the address names."""
    return {name: value for name, (value,) in parse_qs(urlsplit(page.current_url).fragment).items()}


def is_at(page: Chrome, step: dict[str, str]) -> bool:
    """Tell whether the address names this."""
    return named(page) == step


def go_to(page: Chrome, served: Console, fragment: str) -> None:
    """Open the page at what an address names, as a link does."""
    page.get("about:blank")
    page.get(f"{served.url}/{fragment}")
    wait_for(lambda: text(page, "#link") == "Live", "a live page")


def test_a_link_opens_the_same_view(page: Chrome, commit: Commit) -> None:
    """Each filter and the search are in the address, also behind a sign-in; a link to them shows the same alerts."""
    other = ModelReference(name="other", version="1", sha256="cd" * 32)
    wanted: dict[str, object] = {
        "decision": Decision.CHALLENGE,
        "cause": Cause.CIRCUIT_BREAKER,
        "action": "LOGIN",
        "model": other,
    }
    commit(
        alert("all fit", **wanted),
        *(
            alert(f"but the {name}", **{key: value for key, value in wanted.items() if key != name})
            for name in wanted
        ),
    )
    wait_for(shows(page, "all fit", *(f"but the {name}" for name in wanted)), "the alerts")
    values = {
        "decision": "CHALLENGE",
        "cause": "circuit_breaker",
        "action": "LOGIN",
        "model": "cd" * 6,
        "verdict": "none",
    }
    for name, value in values.items():
        choose(page, f"by-{name}", value)
    page.find_element(By.ID, "search").send_keys("ALL F")
    assert shown(page) == ["all fit"]
    assert named(page) == {**values, "q": "ALL F"}
    assert text(page, "#filters-set").strip() == "(5 set)"
    open_alert(page, "all fit")
    link = page.current_url
    page.get("about:blank")
    page.get(link)
    wait_for(lambda: text(page, "#detail h2") == "all fit", "the alert")
    wait_for(lambda: shown(page) == ["all fit"], "the same view")
    assert page.find_element(By.ID, "by-model").get_attribute("value") == "cd" * 6
    assert "other 1" in texts(page, "#by-model option:checked")[0]
    find(page, "#clear")[0].click()
    assert set(named(page)) == {"alert"}
    wait_for(shows(page, "but the cause"), "all alerts")


def test_back_and_forward_go_through_the_views(page: Chrome, served: Console, commit: Commit) -> None:
    """Each choice is a step, a search is one and not one for each letter; an alert that is open is another."""
    commit(alert("to and fro"), alert("to and fro 2", decision=Decision.REVIEW))
    go_to(page, served, "")
    wait_for(shows(page, "to and fro", "to and fro 2"), "the alerts")
    page.find_element(By.ID, "search").send_keys("to and")
    find(page, "#view-queue")[0].click()
    choose(page, "by-decision", "REVIEW")
    open_alert(page, "to and fro 2")
    steps = [
        {"view": "queue", "q": "to and", "decision": "REVIEW"},
        {"view": "queue", "q": "to and"},
        {"q": "to and"},
        {},
    ]
    for step in steps:
        page.back()
        wait_for(partial(is_at, page, step), f"{step}")
        wait_for(lambda: find(page, "#detail h2") == [], "no alert")
    assert page.find_element(By.ID, "search").get_attribute("value") == ""
    for step in reversed(steps[:-1]):
        page.forward()
        wait_for(partial(is_at, page, step), f"{step}")
    wait_for(lambda: shown(page) == ["to and fro 2"], "the view")
    assert page.find_element(By.ID, "search").get_attribute("value") == "to and"
    assert texts(page, ".views [aria-current]") == [text(page, "#view-queue")]
    page.find_element(By.TAG_NAME, "body").send_keys("q")
    assert "view" not in named(page)


@pytest.mark.parametrize("name", ["decision", "cause", "action", "model", "verdict", "q", "view", "alert"])
def test_whatever_an_address_names_is_text(page: Chrome, served: Console, commit: Commit, name: str) -> None:
    """A link from elsewhere can name anything: it is shown as text, fits nothing at most, and the way out is there."""
    commit(alert("there"))
    go_to(page, served, f"#{name}={quote(MARKUP)}&{name}=again&other=%")
    wait_for(lambda: text(page, "#all-length") != "0", "the alerts")
    assert page.execute_script("return document.querySelectorAll('main img, main script').length") == 0
    assert page.title == "Session alerts"
    for button in find(page, "#clear"):
        button.click()
    wait_for(shows(page, "there"), "the alerts")
    assert complaints(page) == []


def drifts(page: Chrome, metrics: DetectorMetrics, gaps: tuple[int, int]) -> str:
    """Have a worker count events of two ranges of gaps; return what the page then says of drift."""
    before, few = text(page, "#drift-summary"), (sum(gaps), 0)
    drift(metrics, {GAPS: gaps, UNKNOWN: few, REACHED: few})
    wait_for(lambda: text(page, "#drift-summary") not in {before, ""}, "the drift")
    return text(page, "#drift-summary")


def test_what_the_breaker_holds_back_and_drift_are_told(
    browser: Chrome, kafka: Broker, create_topic: CreateTopic, unique_name: UniqueName, tmp_path: Path
) -> None:
    """How many challenges the breaker made of blocks and since when, with a link to them; what drifts, with the runbook."""
    topic = create_topic("console-breaker", partitions=1)
    held = [
        alert(
            f"held {n}", decision=Decision.CHALLENGE, cause=Cause.CIRCUIT_BREAKER, detected_at_ms=NOW_MS + n
        )
        for n in range(3)
    ]
    publish(kafka.bootstrap_servers, topic, [*held, alert("blocked")], unique_name("held"))
    metrics, heartbeat = DetectorMetrics(), Heartbeat()
    heartbeat.ready = True
    metrics.assigned_partitions.set(2)
    metrics.step_ups.labels("passed").inc(5)
    metrics.step_ups.labels("failed").inc(2)
    expected: dict[str, tuple[float, ...]] = {
        GAPS: (0.5, 0.5),
        UNKNOWN: (0.999, 0.001),
        REACHED: (0.99, 0.01),
    }
    metrics.drift.watch(Watched(Reference(expected, ()), 0.5), 86_400_000)
    health = HealthServer("127.0.0.1", 0, metrics.registry, heartbeat, PATIENCE_S)
    arguments = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic", topic]
    arguments += ["--metrics-url", f"http://127.0.0.1:{health.port}/metrics"]
    arguments += ["--runbook-url", "https://docs.example/runbook.html"]
    try:
        with console(arguments, tmp_path / "console.log") as watching:
            browser.get(watching.url)
            wait_for(lambda: "Closed. 3 of the alerts kept" in text(browser, "#held-back"), "those held back")
            assert "5 were passed and 2 failed" in text(browser, "#held-back")
            metrics.breaker_probation.labels("1").set(1)
            metrics.breaker_open.labels("1").set(1)
            wait_for(lambda: "Open on 1 of 2 partitions" in text(browser, "#held-back"), "the breaker")
            assert "new to 1" in text(browser, "#held-back")
            wait_for(lambda: bool(find(browser, ".condition a")), "the way to the runbook")
            link = find(browser, ".condition a")[0]
            assert link.get_attribute("href") == "https://docs.example/runbook.html#detectorbreakeropen"
            assert link.get_attribute("rel") == "noreferrer"
            assert drifts(browser, metrics, (2_000, 2_000)) == "Drift: as in training, of 4,000 events"
            find(browser, "#drift-summary")[0].click()
            assert "So few events tell of no drift yet" in text(browser, "#drift-note")
            assert drifts(browser, metrics, (4_000, 0)) == "Drift: gaps unlike the training, of 8,000 events"
            assert find(browser, "#drift-rows .beyond")[0].text.startswith("gaps 0.2")
            assert "1 % in training" in text(browser, "#drift-rows tr:last-child")
            assert find(browser, "#drift-note a")[0].get_attribute("href").endswith("#detectordrift")  # type: ignore[union-attr]
            find(browser, "#held-back a")[0].click()
            wait_for(lambda: shown(browser) == ["held 2", "held 1", "held 0"], "those held back alone")
            open_alert(browser, "held 1")
            assert "the circuit breaker held it back" in text(browser, "#detail .listed")
            browser.get("about:blank")
    finally:
        health.close()


def test_a_page_keeps_no_more_verdicts_than_twice_its_alerts(
    browser: Chrome, kafka: Broker, create_topic: CreateTopic, unique_name: UniqueName, tmp_path: Path
) -> None:
    """Open for months, it forgets what is on no alert that it shows, and nothing that is."""
    topic, verdicts_topic = create_topic("console-bound", partitions=1), unique_name("console-bound-verdicts")
    publish(kafka.bootstrap_servers, topic, [alert("0", account_id="a")], unique_name("bound"))
    where = DetectorConfig(bootstrap_servers=kafka.bootstrap_servers, verdicts_topic=verdicts_topic)
    arguments = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic", topic, "--keep", "2"]
    count = "return import('./static/judged.js').then((judged) => judged.ofAccount('a').map((one) => one.session_id))"
    with console([*arguments, "--verdicts-topic", verdicts_topic], tmp_path / "console.log") as small:
        browser.get(small.url)
        wait_for(lambda: text(browser, "#link") == "Live", "a live page")
        for number in range(8):
            publish_verdict(where, verdict(number, number))
        wait_for(lambda: "7" in browser.execute_script(count), "the last verdict")
        assert sorted(browser.execute_script(count)) == ["0", "5", "6", "7"]
        browser.get("about:blank")


def test_the_search_is_cleared_by_its_own_means(page: Chrome, commit: Commit) -> None:
    """Emptied by hand, it leaves nothing in the address."""
    commit(alert("emptied"))
    wait_for(shows(page, "emptied"), "the alert")
    search = page.find_element(By.ID, "search")
    search.send_keys("emptied")
    assert named(page) == {"q": "emptied"}
    search.send_keys(Keys.CONTROL, "a", Keys.DELETE)
    assert urlsplit(page.current_url).fragment == ""
