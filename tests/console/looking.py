"""What a page shows, and how a reader gets to see more of it."""

from collections.abc import Callable

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.waiting import wait_for


def find(page: Chrome, selector: str) -> list[WebElement]:
    """Return the elements that are visible."""
    return [one for one in page.find_elements(By.CSS_SELECTOR, selector) if one.is_displayed()]


def text(page: Chrome, selector: str) -> str:
    """Return an element's text as it is shown, in one step: the page may put another in its place; empty: none."""
    return str(page.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector))


def choose(page: Chrome, name: str, value: str) -> None:
    """Choose a value of a select as its list would: without a window, the browser can't open the list."""
    script = (
        "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
        "one.dispatchEvent(new Event('input', { bubbles: true }))"
    )
    page.execute_script(script, name, value)


def texts(page: Chrome, selector: str) -> list[str]:
    """Return the texts of all elements at one moment: one after the other they may be replaced meanwhile."""
    script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
    found: list[str] = page.execute_script(script, selector)
    return found


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


def open_alert(page: Chrome, session: str) -> None:
    """Choose the session's alert in the list, and wait for its detail."""
    page.find_element(By.CSS_SELECTOR, f"a[href='{_row_of(page, session)}']").click()
    wait_for(lambda: text(page, "#detail h2") == session, "its detail")


def _row_of(page: Chrome, session: str) -> str:
    script = (
        "return [...document.querySelectorAll('#alerts a')]"
        ".find((row) => row.querySelector('.who').textContent === arguments[0]).getAttribute('href')"
    )
    href: str = page.execute_script(script, session)
    return href
