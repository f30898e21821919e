"""A real Prometheus on loopback, with the configuration of deploy/prometheus."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml

from broker.probe import free_ports
from tests.deploy.compose import ROOT
from tests.machine import find
from tests.waiting import PATIENCE_S, wait_for

FOLDER = ROOT / "deploy" / "prometheus"
_PACKAGE = "prometheus"


def missing() -> str | None:
    """Return what is not on this machine, or None if Prometheus and its tool are there."""
    try:
        find(_PACKAGE, "prometheus")
        find(_PACKAGE, "promtool")
    except FileNotFoundError as error:
        return str(error)
    return None


def promtool(*arguments: str) -> str:
    """Run Prometheus' own tool; return what it printed.

    Raises:
        AssertionError: it found something wrong.
        FileNotFoundError: it is not installed.
    """
    ended = subprocess.run(
        [find(_PACKAGE, "promtool"), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


class Prometheus:
    """A running one, by its HTTP API."""

    def __init__(self, url: str) -> None:
        self._client = httpx2.Client(base_url=url, timeout=10)

    def ready(self) -> bool:
        """Tell whether it answers queries."""
        try:
            return self._client.get("/-/ready").is_success
        except httpx2.TransportError:
            return False

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the series that an expression gives now, each with `metric` and `value`; it must be a valid one."""
        answer = self._client.get("/api/v1/query", params={"query": expr}).json()
        assert answer["status"] == "success", f"{expr}: {answer}"
        series: list[dict[str, Any]] = answer["data"]["result"]
        return series

    def value(self, expr: str) -> float:
        """Return the greatest value that an expression gives now, 0 if there is none."""
        return max((float(one["value"][1]) for one in self.query(expr)), default=0.0)

    def rules(self) -> dict[str, dict[str, Any]]:
        """Return the alert rules by name, each with `state`, `health` and what the last evaluation failed with."""
        groups = self._client.get("/api/v1/rules").json()["data"]["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def wait_until(self, alert: str, state: str) -> None:
        """Wait until a rule is in a state: inactive, pending or firing."""
        wait_for(lambda: self.rules()[alert]["state"] == state, f"{alert} to be {state}")


@contextmanager
def prometheus(folder: Path, **targets: str) -> Iterator[Prometheus]:
    """Run one for the block: the project's rules as they are, its configuration with another target and each second.

    Args:
        folder: an empty one, for its data.
        targets: host and port to scrape, by job.

    Raises:
        FileNotFoundError: it is not installed.
    """
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
    config["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = f"127.0.0.1:{free_ports()[0]}"
    command = [
        find(_PACKAGE, "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        running = Prometheus(f"http://{address}")

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return running.ready()

        wait_for(ready, "Prometheus")
        yield running
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
