"""The queue in a real Chromium, on a real broker: what waits, who judged it, and verdicts that nobody gives by accident."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from broker import Broker
from detector.contract.alerts import Alert, Decision
from detector.contract.verdicts import Finding, Verdict, decode_verdict
from detector.runtime.config import DetectorConfig
from tests.console.alerts import NOW_MS, alert
from tests.console.browser import DESKTOP, PHONE, chromium, complaints, missing, prefer, resize
from tests.console.conftest import ANALYST, TOKEN, Commit, Say, sign_in
from tests.console.looking import find, open_alert, shown, shows, text, texts
from tests.console.serving import Console
from tests.console.test_accessibility import violations
from tests.console.test_page import MARKUP
from tests.machine import skip_without
from tests.runtime.stack import read_committed
from tests.waiting import PATIENCE_S, wait_for

pytestmark = [skip_without(missing()), pytest.mark.long]


@pytest.fixture(scope="module")
def desk(judging: Console, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The browser of somebody who may give verdicts; at its end it has told of no error."""
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        sign_in(running, judging.url, ANALYST)
        yield running
        assert complaints(running) == []


def look(desk: Chrome, judging: Console, fragment: str) -> None:
    """Open the page at what an address names, and wait until all is read."""
    desk.get("about:blank")
    desk.get(f"{judging.url}/{fragment}")
    wait_for(lambda: text(desk, "#link") == "Live" and text(desk, "#queue-length") != "…", "a live page")


def told(kafka: Broker, topic: str, session: str) -> list[Verdict]:
    """Return the verdicts on a session that lie on the topic."""
    where = DetectorConfig(bootstrap_servers=kafka.bootstrap_servers)
    verdicts = [decode_verdict(record.value) for record in read_committed(where, topic)]
    return [one for one in verdicts if one.session_id == session]


def press(desk: Chrome, *keys: str) -> None:
    """Press keys, wherever the focus is."""
    ActionChains(desk).send_keys(*keys).perform()


def confirm(desk: Chrome) -> None:
    """Press Ctrl and Enter."""
    ActionChains(desk).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()


def said(desk: Chrome) -> str:
    """Return what the verdict's form says."""
    return text(desk, "#verdict-said")


def test_the_queue_is_what_waits_the_gravest_first(
    desk: Chrome, judging: Console, commit: Commit, say: Say
) -> None:
    """Blocks, challenges, reviews; then by tenths of the risk, then who has waited longest. A verdict ends the wait."""
    low: dict[str, object] = {"scores": []}
    lot = [
        alert("review", decision=Decision.REVIEW, score=0.79, **low),
        alert("challenge", decision=Decision.CHALLENGE, score=0.7, **low),
        alert("block of late", score=0.95, detected_at_ms=NOW_MS + 500, **low),
        alert("block before", score=0.91, detected_at_ms=NOW_MS + 400, **low),
        alert("block, less sure", score=0.85, detected_at_ms=NOW_MS + 300, **low),
        alert("judged before", decision=Decision.REVIEW, **low),
    ]
    say(lot[-1], Finding.LAWFUL)
    commit(*lot)
    look(desk, judging, "#view=queue&q=account of")
    order = ["block before", "block of late", "block, less sure", "challenge", "review"]
    wait_for(lambda: shown(desk) == order, "the queue")
    assert text(desk, "#queue-length") == "5"
    assert text(desk, "#all-length") == "6"
    assert text(desk, "#count") == "5 to judge, by decision, risk and wait"
    say(lot[3], Finding.FRAUD, by="a system")
    wait_for(lambda: shown(desk) == order[1:], "the verdict of somebody else")
    assert text(desk, "#queue-length") == "4"
    for one in (lot[0], lot[1], lot[2], lot[4]):
        say(one, Finding.LAWFUL)
    wait_for(lambda: text(desk, "#empty") == "No alert waits for a verdict.", "an empty queue")


def test_a_later_verdict_is_what_is_shown(desk: Chrome, judging: Console, commit: Commit, say: Say) -> None:
    """Who, when, why and which, and what it was before; one that was decided earlier changes nothing, come when it may."""
    one = alert("thrice judged")
    commit(one)
    say(one, Finding.FRAUD, by="ann", why="a new device", fraud_type="phishing", decided_at_ms=NOW_MS + 2_000)
    look(desk, judging, f"#alert={one.alert_id}")
    wait_for(lambda: text(desk, "#found").startswith("fraud by ann, "), "the verdict")
    assert text(desk, "#found").endswith(", phishing: a new device")
    say(one, Finding.LAWFUL, by="bob", why="he called", decided_at_ms=NOW_MS + 3_000)
    wait_for(lambda: text(desk, "#found").startswith("lawful by bob, "), "the later verdict")
    assert "he called" in text(desk, "#found")
    assert "before it fraud by ann" in text(desk, "#found small")
    say(one, Finding.FRAUD, by="late", decided_at_ms=NOW_MS + 1_000)
    wait_for(lambda: len(texts(desk, ".history .finding")) == 3, "the third")
    assert text(desk, "#found").startswith("lawful by bob, ")
    assert texts(desk, ".history .finding, .history .chip") == ["BLOCK", "fraud", "fraud", "lawful"]
    assert "3 verdicts" in text(desk, "#history h3")


def test_who_was_cleared_and_is_suspect_again_waits_again(
    desk: Chrome, judging: Console, commit: Commit, say: Say
) -> None:
    """What cleared a session says nothing of what it did after that; what was fraud stays fraud."""
    first = alert("cleared", decision=Decision.REVIEW)
    fraud = alert("found out", decision=Decision.REVIEW)
    say(first, Finding.LAWFUL, decided_at_ms=NOW_MS + 1_000)
    say(fraud, Finding.FRAUD, decided_at_ms=NOW_MS + 1_000)
    again = [alert(one.session_id, detected_at_ms=NOW_MS + 2_000) for one in (first, fraud)]
    commit(first, fraud, *again)
    look(desk, judging, "#view=queue&q=cleared")
    wait_for(lambda: shown(desk) == ["cleared"], "the block")
    assert text(desk, "#alerts li:not([hidden]) .chip") == "BLOCK"
    look(desk, judging, "#view=queue&q=found out")
    wait_for(lambda: text(desk, "#empty") == "No alert fits the search and filters.", "nothing")
    say(again[0], Finding.LAWFUL, alert_id=again[0].alert_id, decided_at_ms=NOW_MS + 1_900)  # a clock behind
    look(desk, judging, "#view=queue&q=cleared")
    wait_for(lambda: shown(desk) == [], "nothing")


def queue_of(commit: Commit, word: str) -> list[Alert]:
    """Commit three alerts that a search for a word finds, the gravest first."""
    lot = [alert(f"{word} {n}", decision=one) for n, one in enumerate(Decision)]
    commit(*lot)
    return lot


def test_verdicts_by_keys_go_through_the_queue(
    desk: Chrome, judging: Console, commit: Commit, kafka: Broker, verdicts_topic: str
) -> None:
    """F or L and then Ctrl and Enter; the next alert is opened, the judged one leaves; a later verdict undoes it."""
    lot = queue_of(commit, "in turn")
    look(desk, judging, "#view=queue&q=in turn")
    wait_for(shows(desk, *(one.session_id for one in lot)), "the queue")
    open_alert(desk, "in turn 0")
    name = desk.find_element(By.ID, "verdict-by")
    name.clear()
    name.send_keys("jane")
    desk.find_element(By.ID, "verdict-why").send_keys("told on the phone", Keys.ESCAPE)
    open_alert(desk, "in turn 0")
    press(desk, "f")
    assert said(desk).startswith("Fraud? Ctrl and Enter")
    desk.find_element(By.ID, "verdict-why").send_keys("it was he")
    confirm(desk)
    wait_for(lambda: text(desk, "#detail h2") == "in turn 1", "the next alert")
    assert said(desk) == "Told: FRAUD on in turn 0. A later verdict takes its place."
    wait_for(lambda: shown(desk) == ["in turn 1", "in turn 2"], "the judged one to leave")
    press(desk, "l")
    confirm(desk)  # the name is remembered
    wait_for(lambda: shown(desk) == ["in turn 2"], "the second to leave")
    assert text(desk, "#detail h2") == "in turn 2"
    (found,) = told(kafka, verdicts_topic, "in turn 0")
    assert (found.account_id, found.alert_id) == (lot[0].account_id, lot[0].alert_id)
    assert (found.verdict, found.by, found.why) == (Finding.FRAUD, "jane", "it was he")
    assert time.time() * 1000 - found.decided_at_ms < PATIENCE_S * 1000
    look(desk, judging, f"#alert={lot[0].alert_id}")
    wait_for(lambda: text(desk, "#found").startswith("fraud by jane"), "the verdict")
    press(desk, "l")
    confirm(desk)
    wait_for(lambda: text(desk, "#found").startswith("lawful by jane"), "the verdict that undoes it")
    assert [one.verdict for one in told(kafka, verdicts_topic, "in turn 0")] == ["FRAUD", "LAWFUL"]


def test_nobody_judges_by_accident(
    desk: Chrome, judging: Console, commit: Commit, kafka: Broker, verdicts_topic: str
) -> None:
    """Words typed beside the search, keys held, Enter in a field, Escape, another alert: none of it is a verdict."""
    lot = queue_of(commit, "at risk")
    look(desk, judging, "#q=at risk")
    wait_for(shows(desk, *(one.session_id for one in lot)), "the alerts")
    open_alert(desk, "at risk 0")
    confirmed = "#verdict-confirm:not([hidden])"
    for word in ("fred", "deal", "fall", "wolf", "ff", "l"):
        press(desk, word, Keys.ENTER)
    assert desk.find_elements(By.CSS_SELECTOR, confirmed)  # the last was asked about, and Enter is no answer
    press(desk, Keys.ESCAPE)
    assert not desk.find_elements(By.CSS_SELECTOR, confirmed)
    assert text(desk, "#detail h2") == "at risk 0"
    confirm(desk)  # nothing to confirm
    for field in ("verdict-by", "verdict-why"):
        desk.find_element(By.ID, field).send_keys("fl", Keys.ENTER)
        assert not desk.find_elements(By.CSS_SELECTOR, confirmed)
    press(desk, Keys.ESCAPE)
    open_alert(desk, "at risk 0")
    press(desk, "f")
    find(desk, "#alerts a")[1].click()  # another alert is not asked about
    wait_for(lambda: text(desk, "#detail h2") == "at risk 1", "another alert")
    assert not desk.find_elements(By.CSS_SELECTOR, confirmed)
    confirm(desk)
    find(desk, "#verdict button[value=FRAUD]")[0].click()  # the first of two steps
    assert text(desk, confirmed) == "Tell: fraud"
    find(desk, "#verdict button[value=FRAUD]")[0].click()
    assert not desk.find_elements(By.CSS_SELECTOR, confirmed)
    find(desk, "#verdict button[value=LAWFUL]")[0].click()
    find(desk, confirmed)[0].click()
    wait_for(lambda: said(desk).startswith("Told: LAWFUL on at risk 1."), "the verdict")
    wait_for(lambda: bool(told(kafka, verdicts_topic, "at risk 1")), "it on the topic")
    for session, count in (("at risk 0", 0), ("at risk 1", 1), ("at risk 2", 0)):
        assert len(told(kafka, verdicts_topic, session)) == count


def test_verdict_keys_can_be_switched_off(desk: Chrome, judging: Console, commit: Commit) -> None:
    """With the other keys of one character (WCAG 2.1.4): F and L then do nothing, the buttons all they did."""
    one = alert("without keys")
    commit(one)
    look(desk, judging, f"#alert={one.alert_id}")
    wait_for(lambda: bool(find(desk, "#verdict")), "the form")
    desk.find_element(By.ID, "keys").click()
    try:
        press(desk, "f")
        assert said(desk) == ""
        find(desk, "#verdict button[value=FRAUD]")[0].click()
        assert said(desk).startswith("Fraud?")
        press(desk, Keys.ESCAPE)
    finally:
        desk.find_element(By.ID, "keys").click()


def test_a_name_is_asked_for(desk: Chrome, judging: Console, commit: Commit) -> None:
    """A verdict is somebody's: without a name none is told, and the field is where to go on."""
    one = alert("by nobody")
    commit(one)
    look(desk, judging, f"#alert={one.alert_id}")
    wait_for(lambda: bool(find(desk, "#verdict")), "the form")
    desk.find_element(By.ID, "verdict-by").clear()
    find(desk, "#verdict button[value=FRAUD]")[0].click()
    confirm(desk)
    assert desk.switch_to.active_element.get_attribute("id") == "verdict-by"
    assert not said(desk).startswith("Told")


def test_who_only_looks_on_finds_no_way_to_judge(judging: Console, commit: Commit, tmp_path: Path) -> None:
    """No form, no keys, no word of them; the queue and what was found are there."""
    one = alert("looked at")
    commit(one)
    with chromium(tmp_path / "profile") as browser:
        sign_in(browser, judging.url, TOKEN)
        browser.get(f"{judging.url}/#view=queue&alert={one.alert_id}")
        wait_for(lambda: text(browser, "#detail h2") == "looked at", "the alert")
        press(browser, "f")
        confirm(browser)
        assert not browser.find_elements(By.ID, "verdict")
        assert find(browser, "#verdict-keys") == []
        assert "looked at" in shown(browser)


def test_markup_in_verdicts_is_text(desk: Chrome, judging: Console, commit: Commit, say: Say) -> None:
    """Who, why and which family, on an account and a session of the same kind: shown as they are, and run nothing."""
    one = alert(MARKUP, account_id=MARKUP)
    commit(one)
    say(one, Finding.FRAUD, by=MARKUP, why=MARKUP, fraud_type=MARKUP)
    look(desk, judging, f"#alert={one.alert_id}")
    wait_for(lambda: text(desk, "#found").count(MARKUP) == 3, "the verdict")
    assert text(desk, ".history li:last-child").count(MARKUP) == 3
    assert desk.execute_script("return document.querySelectorAll('main img, main script').length") == 0
    assert desk.title == "Session alerts"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_axe_finds_nothing_at_the_desk(
    desk: Chrome, judging: Console, commit: Commit, say: Say, size: tuple[int, int], scheme: str
) -> None:
    """The queue, an alert with verdicts and a history, and a verdict that is to be confirmed; nothing overflows."""
    prefer(desk, scheme)
    one = alert("judged " + "x" * 100, account_id="y" * 200)
    commit(one, alert("next", account_id="y" * 200))
    say(one, Finding.FRAUD, by="z" * 100, why="w" * 500)
    say(one, Finding.LAWFUL, decided_at_ms=NOW_MS + 90_000)
    resize(desk, size)
    try:
        for fragment in ("#view=queue&decision=BLOCK", f"#alert={one.alert_id}"):
            look(desk, judging, fragment)
            wait_for(lambda: bool(find(desk, "#alerts a, #found")), "the view")
            if "alert=" in fragment:
                wait_for(lambda: bool(find(desk, "#found small")), "the verdicts")
                find(desk, "#verdict button[value=FRAUD]")[0].click()
            desk.execute_script("document.querySelectorAll('details').forEach((one) => one.open = true)")
            assert violations(desk) == [], (size, fragment)
            assert desk.execute_script("return document.documentElement.scrollWidth") <= size[0]
    finally:
        resize(desk, DESKTOP)
        prefer(desk, "light")
