"""The page in a real Chromium, on a real broker: what it shows, how it is operated, and that ids can do nothing."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

from broker import Broker
from detector.contract.alerts import Cause, Decision
from detector.core.signals import FIRST
from detector.model.artifact import load_model, packaged_model_path
from detector.model.at_hand import ModelsAtHand
from tests.console.alerts import NOW_MS, WINDOW, alert, explainable
from tests.console.browser import PHONE, complaints, missing, resize
from tests.console.conftest import TOKEN, Commit
from tests.console.looking import choose, find, open_alert, shown, shows, text, texts
from tests.console.serving import Console, console
from tests.core.strategies import SIGNALS
from tests.machine import skip_without
from tests.model.models import signals_file
from tests.waiting import wait_for

pytestmark = [skip_without(missing()), pytest.mark.long]
MARKUP = """<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>"""


def history(page: Chrome) -> list[str]:
    """Return the entries of the account's history, without their times and what follows the session."""
    return [one.split(",")[0] for one in texts(page, ".history a, .history .here")]


def test_an_alert_appears_as_it_commits_and_explains_itself(page: Chrome, commit: Commit) -> None:
    """Without a reload: the row, then what it says at once: reasons, the gaps, the score after each action."""
    commit(alert("appears"))
    wait_for(shows(page, "appears"), "the alert")
    open_alert(page, "appears")
    assert [one.text for one in find(page, ".timeline .head div")] == [
        "#",
        "Gap before",
        "Action",
        "Score after",
    ]
    steps = [one.text.split("\n") for one in find(page, ".timeline .step:not(.head)")]
    assert [step[2] for step in steps] == WINDOW
    assert [step[1] for step in steps] == ["start", "1–5 s", "1–5 min", "1 h or more"]  # noqa: RUF001
    assert [step[3] for step in steps] == ["0.010", "0.004", "0.550", "0.970"]
    assert "TRANSFER_LARGE 1 h or more after CHANGE_PASSWORD: +0.60" in text(page, ".why")
    assert "0.8" in str(find(page, ".chart")[0].get_attribute("aria-label"))
    assert len(find(page, ".chart circle")) == len(WINDOW)
    assert "example, version 7" in text(page, ".facts")


def test_an_alert_that_is_opened_is_explained_by_its_model(page: Chrome, commit: Commit) -> None:
    """The exact values of the model that the alert names take the place of the reasons; what overruled it stays."""
    model = load_model(packaged_model_path("default"))
    said = ["the account is on the deny list", "LOGIN: +0.77"]
    denied = explainable("explained", model, explanation=said)
    commit(denied)
    expected = ModelsAtHand().explain(denied)
    wait_for(shows(page, "explained"), "the alert")
    open_alert(page, "explained")
    wait_for(lambda: "Contribution" in texts(page, ".timeline .head div"), "the exact values")
    assert texts(page, ".why li") == ["the account is on the deny list", *expected.explanation]
    assert "Shapley values, exact" in text(page, "#why h3")
    signs = {"+": "+", "-": "−", "0": "0"}  # noqa: RUF001
    values = [f"{one.value:+.3f}" for one in expected.attributions]
    assert texts(page, ".timeline .share span span") == [signs[value[0]] + value[1:] for value in values]


def test_the_parts_of_an_action_are_shown_with_it(
    browser: Chrome, kafka: Broker, topic: str, commit: Commit, tmp_path: Path
) -> None:
    """Of a model that reads signals: below the weightiest actions, what their parts came to, in words."""
    path = tmp_path / "signals.onnx"
    path.write_bytes(signals_file())
    model = load_model(path)
    unusual = bytes([FIRST] * len(SIGNALS))  # a small amount from a new device
    one = explainable("in parts", model, steps=model.encoding.steps(WINDOW, signals=[unusual] * len(WINDOW)))
    commit(one)
    expected = ModelsAtHand(tmp_path).explain(one)
    arguments = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic", topic, "--models", str(tmp_path)]
    with console(arguments, tmp_path / "console.log") as running:
        browser.get(running.url)
        wait_for(shows(browser, "in parts"), "the alert")
        open_alert(browser, "in parts")
        wait_for(lambda: bool(find(browser, ".timeline .parts")), "the parts")
        assert texts(browser, ".why li") == expected.explanation
        told = [
            part.part
            for one in expected.attributions
            for part in (one.parts or [])[:5]
            if abs(part.value) >= 0.01
        ]
        assert [one.rpartition(": ")[0] for one in texts(browser, ".parts li")] == told
        said = sorted(ModelsAtHand(tmp_path).said(one), key=lambda signal: signal.is_usual)
        assert [one.words for one in said] == texts(browser, ".signals li")
        assert {"device never seen", "amount under 10"} <= {one.words for one in said if not one.is_usual}
        assert text(browser, "#signals h3") == "What the signals say of TRANSFER_LARGE"
        browser.get("about:blank")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "model example 7 (abababababab…) is not among the packaged models"),
        ({"gap_ranges_ms": []}, "0 gaps for the 4 actions"),
    ],
    ids=["a model that is not at hand", "an alert of an older version"],
)
def test_why_there_are_no_exact_values_is_told(
    page: Chrome, commit: Commit, changes: dict[str, Any], told: str
) -> None:
    """The reasons stay, with the cause below them."""
    model = load_model(packaged_model_path("default"))
    one = explainable("unexplained", model, **changes) if changes else alert("unexplained")
    commit(one)
    wait_for(shows(page, "unexplained"), "the alert")
    page.get(f"{page.current_url.partition('#')[0]}#alert={one.alert_id}")
    wait_for(lambda: told in text(page, ".unexplained"), "the cause")
    assert "TRANSFER_LARGE 1 h or more after CHANGE_PASSWORD: +0.60" in text(page, ".why")


def test_markup_in_ids_is_text(page: Chrome, commit: Commit) -> None:
    """Ids that hold markup and scripts are shown as they are; they make no element and run nothing."""
    account, action = f"account {MARKUP}", f"ACTION {MARKUP}"
    commit(alert(MARKUP, account_id=account, window=["LOGIN", action], action=action, explanation=[MARKUP]))
    wait_for(shows(page, MARKUP), "the alert")
    open_alert(page, MARKUP)
    assert account in text(page, ".facts")
    assert page.execute_script("return document.querySelectorAll('main img, main script').length") == 0
    assert page.title == "Session alerts"
    assert complaints(page) == []
    # Nor would it if the page had a mistake: the browser refuses markup as such.
    refused = page.execute_script(
        "try { document.body.innerHTML = '<b>'; return null } catch (error) { return error.name }"
    )
    assert refused == "TypeError"
    assert "TrustedHTML" in complaints(page)[0]


def test_search_filters_and_pause(page: Chrome, commit: Commit) -> None:
    """Words of session, account or action, the deciding action, and the pause each do what they say."""
    commit(alert("needle"), alert("hay", account_id="account-9"), alert("straw", action="LOGIN"))
    wait_for(shows(page, "needle", "hay", "straw"), "the alerts")
    page.find_element(By.TAG_NAME, "body").send_keys("/")
    page.switch_to.active_element.send_keys("NEED")
    assert shown(page) == ["needle"]
    assert " of " in text(page, "#count")
    search = page.find_element(By.ID, "search")
    search.clear()
    search.send_keys("account-9")
    assert shown(page) == ["hay"]
    search.send_keys(Keys.CONTROL, "a", Keys.DELETE)
    choose(page, "by-action", "LOGIN")
    wait_for(lambda: shown(page) == ["straw"], "the filter")
    choose(page, "by-action", "")
    wait_for(shows(page, "needle", "hay", "straw"), "all alerts")
    page.find_element(By.ID, "pause").click()
    commit(alert("held back"))
    wait_for(lambda: text(page, "#pause") == "Resume (1)", "the alert to be held")
    assert "held back" not in shown(page)
    page.find_element(By.ID, "pause").click()
    assert "held back" in shown(page)


def test_the_keyboard_is_enough(page: Chrome, commit: Commit) -> None:
    """The rows are gone through with the keys, and Escape closes the detail."""
    commit(alert("one"), alert("two"))
    wait_for(shows(page, "one", "two"), "the alerts")
    body = page.find_element(By.TAG_NAME, "body")
    body.send_keys("j")
    assert text(page, "#detail h2") == shown(page)[0]
    page.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert text(page, "#detail h2") == shown(page)[1]
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert find(page, "#detail h2") == []


def test_it_fits_a_phone(page: Chrome, commit: Commit) -> None:
    """At a phone's width nothing overflows; an alert takes the page's whole width, and there is a way back."""
    resize(page, PHONE)
    window = ["LOGIN", *["VIEW_BALANCE"] * 19]
    scores = [number / 25 for number in range(20)]
    commit(alert("on a phone " + "x" * 200, window=window, scores=scores, action_number=1_020))
    wait_for(lambda: any(one.startswith("on a phone") for one in shown(page)), "the alert")
    assert find(page, "#detail") == []
    find(page, "#alerts a")[0].click()
    wait_for(lambda: bool(find(page, "#detail .timeline")), "the detail")
    assert find(page, "#alerts") == []
    assert page.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    boxes = [one.rect for one in find(page, ".chart .step-text")]
    assert [one.text for one in find(page, ".chart .step-text")][-1] == "1020"
    assert all(box["x"] + box["width"] < after["x"] for box, after in itertools.pairwise(boxes))
    find(page, ".back")[0].click()
    assert find(page, "#alerts")
    assert page.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]


def test_signing_in_and_out(browser: Chrome, kafka: Broker, topic: str, tmp_path: Path) -> None:
    """A console with a token sends to the sign-in; a wrong token is told, the right one opens, and ends with sign out."""
    path = tmp_path / "token"
    path.write_text(TOKEN)
    arguments = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic", topic, "--token-file", str(path)]
    with console(arguments, tmp_path / "console.log") as guarded:
        browser.get(guarded.url)
        assert browser.current_url == f"{guarded.url}/login"
        browser.find_element(By.ID, "token").send_keys("not it", Keys.ENTER)
        wait_for(lambda: text(browser, "#refused") == "That is not the token.", "the refusal")
        browser.find_element(By.ID, "token").send_keys(TOKEN, Keys.ENTER)
        wait_for(lambda: bool(find(browser, "#link")) and text(browser, "#link") == "Live", "a live page")
        assert browser.execute_script("return document.cookie") == ""
        # As by a link from elsewhere, which comes without the cookie: it leads to what it names all the same.
        browser.get("about:blank")
        browser.get(f"{guarded.url}/login#alert=named")
        wait_for(lambda: browser.current_url == f"{guarded.url}/#alert=named", "the page")
        wait_for(lambda: text(browser, "#link") == "Live", "a live page")
        browser.find_element(By.ID, "sign-out").click()
        wait_for(lambda: bool(find(browser, "#login")), "the sign-in")
        browser.get(guarded.url)
        assert browser.current_url == f"{guarded.url}/login"


def test_what_overruled_the_score_is_said(page: Chrome, commit: Commit) -> None:
    """Alerts by deny list and circuit breaker name them in the list and above the reason, and show no empty columns."""
    bare: dict[str, object] = {"scores": [], "gap_ranges_ms": []}
    commit(
        alert("denied", cause=Cause.DENY_LIST, explanation=["the account is on the deny list"], **bare),
        alert(
            "held back by it",
            decision=Decision.CHALLENGE,
            cause=Cause.CIRCUIT_BREAKER,
            explanation=[],
            **bare,
        ),
        alert("failed", cause=Cause.STEP_UP_FAILED, action="STEP_UP_FAILED", **bare),
    )
    wait_for(shows(page, "denied", "held back by it", "failed"), "the alerts")
    told = f"step up failed: STEP_UP_FAILED after {', '.join(reversed(WINDOW))}"
    assert told in texts(page, ".row .actions")  # it is no step of the window
    page.find_element(By.ID, "search").send_keys("deny list")
    assert shown(page) == ["denied"]
    open_alert(page, "denied")
    assert "by deny list" in text(page, ".headline")
    assert "the account is on the deny list" in text(page, ".why")
    assert [one.text for one in find(page, ".timeline .head div")] == ["#", "Action"]
    assert [one.text.split("\n")[1] for one in find(page, ".timeline .step:not(.head)")] == WINDOW
    page.find_element(By.ID, "search").send_keys(Keys.CONTROL, "a", Keys.DELETE)
    open_alert(page, "held back by it")
    assert "CHALLENGE" in text(page, ".headline")
    assert "by circuit breaker" in text(page, ".headline")


def test_the_account_s_history_leads_from_one_alert_to_the_others(page: Chrome, commit: Commit) -> None:
    """In the order of time, the one that is open marked: a review, the block that followed, another session's."""
    commit(
        alert("twice", decision=Decision.REVIEW, score=0.3, account_id="shared"),
        alert("twice", detected_at_ms=NOW_MS + 1_000, account_id="shared"),
        alert("elsewhere", detected_at_ms=NOW_MS + 2_000, account_id="shared", cause=Cause.DENY_LIST),
        alert("stranger"),
    )
    wait_for(shows(page, "twice", "elsewhere", "stranger"), "the alerts")
    wait_for(lambda: shown(page).count("twice") == 2, "both alerts of the session")
    open_alert(page, "elsewhere")
    assert history(page) == ["REVIEW twice", "BLOCK twice", "BLOCK this session"]
    assert "3 alerts kept" in text(page, "#history h3")
    assert "On the deny list" in text(page, "#history .listed")
    assert "(this alert)" in text(page, ".history .here")
    find(page, ".history a")[0].click()
    wait_for(lambda: "0.3000" in text(page, ".risk"), "the review")
    assert history(page) == ["REVIEW this session", "BLOCK this session", "BLOCK elsewhere"]


@pytest.mark.parametrize("name", ["none-such", "%", "%E0%A4%A"])
def test_an_alert_that_is_not_kept_is_told(page: Chrome, served: Console, name: str) -> None:
    """An address of an alert that is gone, or of none at all, says so; the page works on."""
    page.get("about:blank")
    page.get(f"{served.url}/#alert={name}")
    wait_for(lambda: "not among the newest 1000" in text(page, "#detail"), "the page to say so")
    assert text(page, "#link") == "Live"


def test_many_alerts_at_once_leave_the_reader_alone(page: Chrome, commit: Commit) -> None:
    """Of 1,500 alerts in one transaction the newest 1,000 are kept; what is open stays open, where it was scrolled to."""
    commit(alert("being read"))
    wait_for(shows(page, "being read"), "the alert")
    open_alert(page, "being read")
    page.execute_script("document.getElementById('detail').scrollTop = 120")
    before = page.execute_script("return document.getElementById('detail').scrollTop")
    commit(*(alert(f"flood {n}", detected_at_ms=NOW_MS + 10_000 + n) for n in range(1_500)))
    wait_for(lambda: shown(page)[:1] == ["flood 1499"], "the last alert")
    assert shown(page) == [f"flood {n}" for n in reversed(range(500, 1_500))]
    assert "1,000 alerts, the newest" in text(page, "#count")
    assert text(page, "#detail h2") == "being read"
    assert before > 0
    assert page.execute_script("return document.getElementById('detail').scrollTop") == before


def test_keys_of_one_character_can_be_switched_off(page: Chrome, commit: Commit) -> None:
    """Off, they do nothing, in this browser from then on (WCAG 2.1.4); arrows and Enter still reach an alert."""
    commit(alert("by keys", detected_at_ms=NOW_MS + 10**7))
    wait_for(shows(page, "by keys"), "the alert")
    page.find_element(By.ID, "keys").click()
    try:
        page.refresh()
        wait_for(shows(page, "by keys"), "the alert")
        page.find_element(By.TAG_NAME, "body").send_keys("j")
        assert find(page, "#detail h2") == []
        find(page, "#alerts a")[0].send_keys(Keys.ENTER)
        wait_for(
            lambda: page.switch_to.active_element.get_attribute("id") == "detail", "the focus on the alert"
        )
        assert text(page, "#detail h2") == "by keys"
    finally:
        page.find_element(By.ID, "keys").click()
