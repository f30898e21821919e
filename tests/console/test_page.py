"""The page in a real Chromium, on a real broker: what it shows, how it is operated, and that ids can do nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from broker import Broker, EmbeddedBroker
from tests.console.alerts import WINDOW, alert, publish
from tests.console.browser import DESKTOP, PHONE, chromium, missing, resize
from tests.console.conftest import TOKEN, Commit
from tests.console.serving import Console, console
from tests.machine import skip_without
from tests.runtime.stack import wait_for

pytestmark = skip_without(missing())
MARKUP = """<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser; at the end it has told of no error, nor of anything the policy forbade."""
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running
        assert complaints(running) == []


@pytest.fixture
def page(browser: Chrome, served: Console) -> Chrome:
    """The console's page, live, at a desktop's size."""
    resize(browser, DESKTOP)
    browser.get("about:blank")
    browser.get(served.url)
    wait_for(lambda: text(browser, "#link") == "Live", "a live page")
    return browser


def complaints(browser: Chrome) -> list[str]:
    """Return the errors that the browser told of since the last call, a refused sign-in aside."""
    log: list[dict[str, str]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    told = [entry["message"] for entry in log if entry["level"] == "SEVERE"]
    return [message for message in told if "401 (Unauthorized)" not in message]


def find(page: Chrome, selector: str) -> list[WebElement]:
    """Return the elements that are visible."""
    return [one for one in page.find_elements(By.CSS_SELECTOR, selector) if one.is_displayed()]


def text(page: Chrome, selector: str) -> str:
    """Return an element's text."""
    return str(page.find_element(By.CSS_SELECTOR, selector).text)


def choose(page: Chrome, name: str, value: str) -> None:
    """Choose a value of a select as its list would: without a window, the browser can't open the list."""
    script = (
        "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
        "one.dispatchEvent(new Event('input', { bubbles: true }))"
    )
    page.execute_script(script, name, value)


def shown(page: Chrome) -> list[str]:
    """Return the sessions of the rows that are visible, from the top."""
    script = (
        "return [...document.querySelectorAll('#alerts li:not([hidden]) .who')].map((one) => one.textContent)"
    )
    names: list[str] = page.execute_script(script)
    return names


def shows(page: Chrome, *sessions: str) -> Callable[[], bool]:
    """Return a condition: rows of these sessions are visible."""
    return lambda: set(sessions) <= set(shown(page))


def test_an_alert_appears_as_it_commits_and_explains_itself(page: Chrome, commit: Commit) -> None:
    """Without a reload: the row, then the session with its gaps, the score after each action and the contributions."""
    commit(alert("appears"))
    wait_for(shows(page, "appears"), "the alert")
    page.find_element(By.XPATH, "//a[.//*[text()='appears']]").click()
    wait_for(lambda: text(page, "#detail h2") == "appears", "its detail")
    steps = [one.text.split("\n") for one in find(page, ".timeline .step:not(.head)")]
    assert [step[2] for step in steps] == WINDOW
    assert [step[1] for step in steps] == ["start", "1–5 s", "1–5 min", "1 h or more"]  # noqa: RUF001
    assert [step[3] for step in steps] == ["0.010", "0.004", "0.550", "0.970"]
    assert [step[4] for step in steps] == ["−0.050", "−0.100", "+0.500", "+0.600"]  # noqa: RUF001
    assert "TRANSFER_LARGE 1 h or more after CHANGE_PASSWORD: +0.60" in text(page, ".why")
    assert "0.8" in str(find(page, ".chart")[0].get_attribute("aria-label"))
    assert len(find(page, ".chart circle")) == len(WINDOW)
    assert "example, version 7" in text(page, ".facts")


def test_markup_in_ids_is_text(page: Chrome, commit: Commit) -> None:
    """Ids that hold markup and scripts are shown as they are; they make no element and run nothing."""
    account, action = f"account {MARKUP}", f"ACTION {MARKUP}"
    commit(alert(MARKUP, account_id=account, window=["LOGIN", action], action=action, explanation=[MARKUP]))
    wait_for(shows(page, MARKUP), "the alert")
    page.find_element(By.CSS_SELECTOR, f"a[href='{_row_of(page, MARKUP)}']").click()
    wait_for(lambda: text(page, "#detail h2") == MARKUP, "its detail")
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
    choose(page, "action", "LOGIN")
    wait_for(lambda: shown(page) == ["straw"], "the filter")
    choose(page, "action", "")
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
    commit(alert("on a phone " + "x" * 200))
    wait_for(lambda: any(one.startswith("on a phone") for one in shown(page)), "the alert")
    assert find(page, "#detail") == []
    find(page, "#alerts a")[0].click()
    wait_for(lambda: bool(find(page, "#detail .timeline")), "the detail")
    assert find(page, "#alerts") == []
    assert page.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
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
        browser.find_element(By.ID, "sign-out").click()
        wait_for(lambda: bool(find(browser, "#login")), "the sign-in")
        browser.get(guarded.url)
        assert browser.current_url == f"{guarded.url}/login"


def test_the_page_tells_that_its_broker_is_away(browser: Chrome, tmp_path: Path) -> None:
    """While the broker is away the page says so; when it is back it is live again, and shows what came since."""
    resize(browser, DESKTOP)
    with EmbeddedBroker() as broker:
        servers, topic = broker.bootstrap_servers, "session-alerts"
        admin = KafkaAdminClient(bootstrap_servers=servers)
        admin.create_topics([NewTopic(topic, 1, 1)])
        admin.close()
        publish(servers, topic, [alert("before")], "before")
        arguments = ["--bootstrap-servers", servers, "--topic", topic]
        with console(arguments, tmp_path / "console.log") as own:
            browser.get(own.url)
            wait_for(shows(browser, "before"), "the first alert")
            broker.stop()
            wait_for(lambda: "Kafka unreachable since" in text(browser, "#link"), "the page to say so")
            broker.start()
            publish(servers, topic, [alert("after")], "after")
            wait_for(shows(browser, "before", "after"), "the alert after")
            wait_for(lambda: text(browser, "#link") == "Live", "a live page")
            assert sorted(shown(browser)) == ["after", "before"]
        wait_for(lambda: "Console unreachable" in text(browser, "#link"), "the page to say so")
        browser.get("about:blank")
    complaints(browser)  # of the connection that was refused at the end


def _row_of(page: Chrome, session: str) -> str:
    script = (
        "return [...document.querySelectorAll('#alerts a')]"
        ".find((row) => row.querySelector('.who').textContent === arguments[0]).getAttribute('href')"
    )
    href: str = page.execute_script(script, session)
    return href
