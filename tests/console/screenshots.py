"""Makes the pictures of docs/console.md: `make screenshots`. The packaged model of histories on simulated lives, all of it real."""

import base64
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx2
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from broker import obtain
from broker.probe import free_ports
from detector.contract.alerts import Alert, Decision
from detector.contract.verdicts import Finding, Verdict, new_verdict_id
from detector.runtime.config import DetectorConfig
from detector.runtime.verdicts import publish_verdict
from tests.console.browser import DESKTOP, PHONE, chromium, missing
from tests.console.conftest import ANALYST, TOKEN, sign_in
from tests.console.serving import console
from tests.runtime.stack import Stack
from tests.waiting import PATIENCE_S, wait_for

_IMAGES = Path(__file__).parents[2] / "docs" / "images"
_TRAFFIC = [
    "--preset",
    "realistic",
    "--days",
    "20",
    "--customers",
    "300",
    "--attack-rate",
    "0.05",
    "--seed",
    "42",
    "--rate",
    "400",
]
_SHOWN_ALERTS = 150
_COLOURS = 256


def main() -> None:
    """Write all pictures."""
    if (reason := missing()) is not None:
        sys.exit(reason)
    _IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, obtain() as broker:
        (port,) = free_ports()
        stack = Stack(
            broker.bootstrap_servers,
            "screenshots",
            Path(folder),
            model="history",
            review_threshold=0.1,
            challenge_threshold=0.2,
            metrics_port=port,
        )
        metrics = f"http://127.0.0.1:{port}/metrics"
        servers = ["--bootstrap-servers", broker.bootstrap_servers]
        where = replace(stack.config, verdicts_topic="screenshots-verdicts")
        arguments = [*servers, "--topic", where.alerts_topic, "--verdicts-topic", where.verdicts_topic]
        tokens = {"DETECTOR_CONSOLE_TOKEN": TOKEN, "DETECTOR_CONSOLE_ANALYST_TOKEN": ANALYST}
        log = Path(folder) / "console.log"
        with stack.worker(), console([*arguments, "--metrics-url", metrics], log, **tokens) as page:
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
                alerts = stack.alerts()
                chosen = max(alerts, key=partial(_tells, alerts=alerts))
                _judge(where, [one for one in alerts if one.session_id != chosen.session_id])
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


def _tells(alert: Alert, alerts: Sequence[Alert]) -> tuple[bool, int, int]:
    """Prefer blocks that fit a picture, of accounts of which there is more to tell, suspect for a while before."""
    sessions = {one.session_id for one in alerts if one.account_id == alert.account_id}
    fits = alert.decision is Decision.BLOCK and 6 <= len(alert.window) <= 12
    return fits, min(len(sessions), 4), sum(0.05 < score < alert.threshold for score in alert.scores)


def _judge(where: DetectorConfig, alerts: Sequence[Alert]) -> None:
    """Give verdicts on every other alert, as two people and the customers would."""
    for number, alert in enumerate(alerts[::2]):
        is_fraud = alert.score > 0.6
        verdict = Verdict(
            verdict_id=new_verdict_id(),
            account_id=alert.account_id,
            session_id=alert.session_id,
            alert_id=alert.alert_id,
            verdict=Finding.FRAUD if is_fraud else Finding.LAWFUL,
            by=("jane", "otto")[number % 2],
            why="not the customer's device" if is_fraud else "the customer confirmed it on the phone",
            decided_at_ms=time.time_ns() // 1_000_000,
        )
        publish_verdict(where, verdict)


def _picture(browser: Chrome, url: str, chosen: Alert, name: str) -> None:
    sign_in(browser, url, ANALYST)
    browser.get(f"{url}/#view=queue")
    browser.execute_script("localStorage.setItem('by', 'jane')")
    wait = WebDriverWait(browser, PATIENCE_S)
    wait.until(lambda page: len(page.find_elements(By.CSS_SELECTOR, "#alerts li")) >= _SHOWN_ALERTS)
    wait.until(lambda page: page.find_element(By.ID, "rate").text.isdecimal())
    browser.execute_script("await new Promise((done) => setTimeout(done, 2000))")  # the arrival's animation
    if name == "phone":
        _shoot(browser, "console-phone.png")
    browser.get(f"{url}/#view=queue&alert={chosen.alert_id}")
    wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, ".timeline .share"))
    if name == "dark":
        browser.execute_script("document.getElementById('signals').scrollIntoView()")
    row = "document.querySelector('#alerts a[aria-current]')"
    browser.execute_script(
        f"await new Promise((done) => setTimeout(done, 500)); {row}.scrollIntoView({{ block: 'center' }})"
    )
    browser.execute_script(
        "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
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
