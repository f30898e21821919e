"""Makes the pictures of docs/console.md: `make screenshots`. Real alerts, of the demonstration's traffic."""

import base64
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx2
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from broker import obtain
from detector.contract.alerts import Alert
from tests.console.browser import DESKTOP, PHONE, chromium, missing
from tests.console.serving import console
from tests.runtime.stack import PATIENCE_S, Stack, wait_for

_IMAGES = Path(__file__).parents[2] / "docs" / "images"
_SESSIONS = 600
_SHOWN_ALERTS = 25


def main() -> None:
    """Write all pictures."""
    if (reason := missing()) is not None:
        sys.exit(reason)
    _IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, obtain() as broker:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        stack = Stack(broker.bootstrap_servers, "screenshots", Path(folder), metrics_port=port)
        metrics = f"http://127.0.0.1:{port}/metrics"
        servers = ["--bootstrap-servers", broker.bootstrap_servers]
        arguments = [*servers, "--topic", stack.config.alerts_topic, "--metrics-url", metrics]
        with stack.worker(), console(arguments, Path(folder) / "console.log") as page:
            wait_for(lambda: _answers(f"http://127.0.0.1:{port}/readyz"), "the worker")
            traffic = ["--sessions", str(_SESSIONS), "--seed", "42", "--rate", "150"]
            producer = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "producer",
                    "simulate",
                    *servers,
                    "--topic",
                    stack.config.input_topic,
                    *traffic,
                ]
            )
            try:
                wait_for(lambda: len(stack.alerts()) >= _SHOWN_ALERTS, f"{_SHOWN_ALERTS} alerts")
                chosen = max(stack.alerts(), key=lambda alert: len(alert.window))
                for name, size, dark in (
                    ("desktop", DESKTOP, False),
                    ("dark", DESKTOP, True),
                    ("phone", PHONE, False),
                ):
                    with chromium(Path(folder) / name, size, dark=dark) as browser:
                        _picture(browser, page.url, chosen, name)
            finally:
                producer.terminate()
                producer.wait()


def _picture(browser: Chrome, url: str, chosen: Alert, name: str) -> None:
    browser.get(url)
    wait = WebDriverWait(browser, PATIENCE_S)
    wait.until(lambda page: len(page.find_elements(By.CSS_SELECTOR, "#alerts li")) >= _SHOWN_ALERTS)
    wait.until(lambda page: page.find_element(By.ID, "rate").text.isdecimal())
    browser.execute_script("await new Promise((done) => setTimeout(done, 2000))")  # the arrival's animation
    if name == "phone":
        _shoot(browser, "console-phone.png")
    browser.get(f"{url}/#alert={chosen.alert_id}")
    wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, ".timeline"))
    browser.execute_script("await new Promise((done) => setTimeout(done, 500))")
    _shoot(browser, f"console-{name}{'-alert' if name == 'phone' else ''}.png")


def _shoot(browser: Chrome, name: str) -> None:
    picture = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    (_IMAGES / name).write_bytes(base64.b64decode(picture))
    print(name)  # noqa: T201  a command's output


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url).is_success
    except httpx2.HTTPError:
        return False


if __name__ == "__main__":
    main()
