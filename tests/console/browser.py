"""A real Chromium without a window, driven through its own driver (WebDriver, W3C)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.machine import find

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_DRIVERS = ("chromedriver", "chromium.chromedriver")
DESKTOP = (1440, 900)
PHONE = (390, 844)


def missing() -> str | None:
    """Return what is not on this machine, or None if a browser can be started."""
    try:
        _programs()
    except FileNotFoundError as error:
        return str(error)
    return None


def _programs() -> tuple[str, str]:
    return find("chromium", *_BROWSERS), find("chromium-driver", *_DRIVERS)


@contextmanager
def chromium(profile: Path, size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> Iterator[Chrome]:
    """Run a browser for the block.

    Args:
        profile: an empty folder for its files.
        size: of what the page sees, in CSS pixels; as of `resize`.
        dark: whether its user prefers dark colours.

    Raises:
        FileNotFoundError: the browser or its driver is not installed.
    """
    options = ChromeOptions()
    options.binary_location, driver = _programs()
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
    ):
        options.add_argument(argument)  # without its sandbox, which a container's root can't have
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options, ChromeService(driver))
    try:
        resize(browser, size)
        prefer(browser, "dark" if dark else "light")
        yield browser
    finally:
        browser.quit()


def prefer(browser: Chrome, scheme: str) -> None:
    """Have the browser's user prefer dark or light colours."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def resize(browser: Chrome, size: tuple[int, int]) -> None:
    """Give the page a size in CSS pixels; one narrower than 500 is a phone's."""
    width, height = size
    phone = width < 500
    metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def complaints(browser: Chrome) -> list[str]:
    """Return the errors that the browser told of since the last call, a refused sign-in aside."""
    log: list[dict[str, str]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    told = [entry["message"] for entry in log if entry["level"] == "SEVERE"]
    return [message for message in told if "401 (Unauthorized)" not in message]
