"""What is handed over: licence, types and versions, and a wheel that is all a user needs."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name

import click
import pytest
from click.testing import CliRunner

from broker import Broker
from broker.jars import KAFKA_VERSION
from detector.version import VERSION
from tests.conftest import UniqueName
from tests.deploy.compose import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPTS: dict[str, str] = PROJECT["scripts"]
PACKAGES = ["broker", "demo", "detector", "producer", "trainer"]
PATIENCE_S = 900.0
"""For an installation that has to fetch TensorFlow, on a loaded machine."""


@pytest.mark.parametrize(
    ("script", "command"),
    [*SCRIPTS.items(), ("python -m broker", "broker.__main__:main"), ("python -m demo", "demo.cli:main")],
)
def test_every_command_tells_its_version(script: str, command: str) -> None:
    """`--version` of each is the distribution's, and the broker's that of its Kafka, too."""
    program = resolve_name(command)
    assert isinstance(program, click.Command)
    told = CliRunner().invoke(program, ["--version"], prog_name=script)
    of_kafka = f", with Apache Kafka {KAFKA_VERSION}" if script == "python -m broker" else ""
    assert told.output == f"{script}, version {VERSION}{of_kafka}\n"


def test_every_package_is_typed() -> None:
    """Type checkers of who imports us read our annotations (PEP 561)."""
    assert {path.parent.name for path in ROOT.glob("*/py.typed")} == set(PACKAGES)
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert ours - {"tests", "benchmarks"} == set(PACKAGES)


def test_whatever_is_of_others_is_noticed() -> None:
    """The licence is Apache's, whole, and NOTICE names each file of others that lies in the tree."""
    assert PROJECT["license"] == "Apache-2.0"
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    vendored = list((ROOT / "tests").rglob("vendored/*.json"))
    assert vendored
    assert [path for path in vendored if str(path.relative_to(ROOT)) not in notice] == []


class Installed:
    """An environment that has our wheel and what it asks for, and nothing of this checkout.

    Args:
        folder: for the environment, and to work in.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        source, built = folder / "source", folder / "built"
        for name in [*PACKAGES, "pyproject.toml", "README.md", "LICENSE", "NOTICE"]:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            (folder / "source").mkdir(exist_ok=True)
            copy(ROOT / name, source / name)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        self._run(*pip, "wheel", "--no-deps", "--wheel-dir", str(built), str(source))
        (self.wheel,) = built.iterdir()
        self._run(sys.executable, "-m", "venv", str(folder / "environment"))
        self.install()

    def install(self, extra: str = "") -> None:
        """Install the wheel, with an extra in brackets, and what that asks for."""
        pip = (str(self._path("python")), "-m", "pip", "--disable-pip-version-check")
        self._run(*pip, "install", "--quiet", "--no-compile", f"{self.wheel}{extra}")

    def run(self, script: str, *arguments: str) -> str:
        """Run a command to its end, which must be good; return what it printed."""
        return self._run(str(self._path(script)), *arguments)

    @contextmanager
    def running(self, script: str, *arguments: str) -> Iterator[None]:
        """Run a command for the block; asked to stop, it must end well."""
        log = self._folder / "running.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [self._path(script), *arguments],
                cwd=self._folder, env=_environment(), stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            yield
            process.terminate()
            assert process.wait(60) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()

    def _path(self, name: str) -> Path:
        return self._folder / "environment" / "bin" / name

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self._folder, env=_environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _environment() -> dict[str, str]:
    ours = ("DETECTOR_", "PRODUCER_", "KAFKA_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_a_wheel_is_all_that_a_user_needs(kafka: Broker, unique_name: UniqueName, tmp_path: Path) -> None:
    """Installed from the index into an empty environment, each command works, outside of the checkout.

    Version and help take no extra. Sessions are simulated into a file, a model learns from the packaged one's words, and
    the detector blocks with it what the producer sends through a broker.
    """
    installed = Installed(tmp_path)
    for script in SCRIPTS:
        assert installed.run(script, "--version") == f"{script}, version {VERSION}\n"
        assert installed.run(script, "--help").startswith(f"Usage: {script} ")
    installed.install("[train]")
    attack = ("LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE")
    assert installed.run("session-detector", "score", "--model", "seed", *attack).startswith("BLOCKED")
    installed.run(
        *(
            "session-trainer",
            "train",
            "--preset",
            "seed",
            "--steps",
            "300",
            "--no-report",
            "--out",
            "own.onnx",
        )
    )
    topic, alerts = unique_name("wheel"), unique_name("wheel-alerts")
    where = ("--bootstrap-servers", kafka.bootstrap_servers)
    topics = ("--input-topic", topic, "--alerts-topic", alerts, "--group", unique_name("wheel-group"))
    with installed.running(
        *("session-detector", "run", "--model", "own.onnx", "--metrics-port", "-1", *topics, *where)
    ):
        told = installed.run(
            "session-producer", "simulate", "--preset", "seed", "--sessions", "200", "--topic", topic, *where
        )
        assert told is not None
        shown = installed.run(
            *("session-detector", "alerts", "--topic", alerts, "--from-beginning", "--max", "1", *where)
        )
    assert shown.startswith("BLOCK ")
