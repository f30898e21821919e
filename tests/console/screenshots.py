"""Makes the pictures of docs/console.md: `make screenshots`. The packaged model on realistic traffic, all of it real."""

import base64
import io
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx2
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from broker import obtain
from detector.contract.alerts import Alert, Decision
from tests.console.browser import DESKTOP, PHONE, chromium, missing
from tests.console.serving import console
from tests.runtime.stack import PATIENCE_S, Stack, wait_for

_IMAGES = Path(__file__).parents[2] / "docs" / "images"
_TRAFFIC = (
    "--preset",
    "realistic",
    "--attack-rate",
    "0.05",
    "--sessions",
    "2500",
    "--seed",
    "42",
    "--rate",
    "300",
)
_SHOWN_ALERTS = 60
_COLOURS = 256


def main() -> None:
    """Write all pictures."""
    if (reason := missing()) is not None:
        sys.exit(reason)
    _IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, obtain() as broker:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        stack = Stack(
            broker.bootstrap_servers,
            "screenshots",
            Path(folder),
            model="default",
            review_threshold=0.2,
            metrics_port=port,
        )
        metrics = f"http://127.0.0.1:{port}/metrics"
        servers = ["--bootstrap-servers", broker.bootstrap_servers]
        arguments = [*servers, "--topic", stack.config.alerts_topic, "--metrics-url", metrics]
        with stack.worker(), console(arguments, Path(folder) / "console.log") as page:
            wait_for(lambda: _answers(f"http://127.0.0.1:{port}/readyz"), "the worker")
            producer = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "producer",
                    "simulate",
                    *servers,
                    "--topic",
                    stack.config.input_topic,
                    *_TRAFFIC,
                ]
            )
            try:
                wait_for(lambda: len(stack.alerts()) >= _SHOWN_ALERTS, f"{_SHOWN_ALERTS} alerts")
                blocks = [one for one in stack.alerts() if one.decision is Decision.BLOCK]
                chosen = max(blocks, key=_tells)
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


def _tells(alert: Alert) -> tuple[bool, int]:
    """Prefer sessions that fit a picture and were suspect for a while before they were blocked."""
    return 8 <= len(alert.window) <= 12, sum(0.05 < score < alert.threshold for score in alert.scores)


def _picture(browser: Chrome, url: str, chosen: Alert, name: str) -> None:
    browser.get(url)
    wait = WebDriverWait(browser, PATIENCE_S)
    wait.until(lambda page: len(page.find_elements(By.CSS_SELECTOR, "#alerts li")) >= _SHOWN_ALERTS)
    wait.until(lambda page: page.find_element(By.ID, "rate").text.isdecimal())
    browser.execute_script("await new Promise((done) => setTimeout(done, 2000))")  # the arrival's animation
    if name == "phone":
        _shoot(browser, "console-phone.png")
    browser.get(f"{url}/#alert={chosen.alert_id}")
    wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, ".timeline .share"))
    if name == "dark":
        browser.execute_script("document.querySelector('.chart').previousElementSibling.scrollIntoView()")
    browser.execute_script("await new Promise((done) => setTimeout(done, 500))")
    _shoot(browser, f"console-{name}{'-alert' if name == 'phone' else ''}.png")


def _shoot(browser: Chrome, name: str) -> None:
    picture = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:  # so few colours: a third of the size
        few = image.convert("RGB").quantize(_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(_IMAGES / name, optimize=True)
    print(name)  # noqa: T201  a command's output


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url).is_success
    except httpx2.HTTPError:
        return False


if __name__ == "__main__":
    main()
