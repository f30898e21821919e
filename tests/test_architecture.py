"""Imports point one way, and modules stay small enough to be held in the head."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_LINES = 420

ALLOWED: dict[str, set[str]] = {
    "detector.client": {"detector.connection"},
    "detector.connection": set(),
    "detector.contract": set(),
    "detector.core": {"detector.contract"},
    "detector.formats": {"detector.connection", "detector.contract"},
    "detector.model": {"detector.contract", "detector.core"},
    "detector.terminal": set(),
    "detector.version": set(),
    "detector.writing": set(),
    "detector.runtime": {
        "detector.client",
        "detector.connection",
        "detector.contract",
        "detector.core",
        "detector.formats",
        "detector.model",
    },
    "detector.options": {"detector.runtime"},
    "detector.ranges": set(),
    "detector.backtest": {
        "detector.client",
        "detector.contract",
        "detector.core",
        "detector.formats",
        "detector.model",
        "detector.options",
        "detector.ranges",
        "detector.runtime",
        "detector.terminal",
        "detector.writing",
    },
    "detector.console": {"detector.contract", "detector.core", "detector.model", "detector.runtime"},
    "detector": {
        "detector.backtest",
        "detector.client",
        "detector.console",
        "detector.contract",
        "detector.core",
        "detector.formats",
        "detector.model",
        "detector.options",
        "detector.ranges",
        "detector.runtime",
        "detector.terminal",
        "detector.version",
        "detector.writing",
    },
    "producer": {
        "detector.client",
        "detector.connection",
        "detector.contract",
        "detector.formats",
        "detector.ranges",
        "detector.version",
        "detector.writing",
    },
    "trainer.data": {
        "detector.client",
        "detector.connection",
        "detector.contract",
        "detector.core",
        "detector.formats",
        "producer",
    },
    "trainer.evaluation": {
        "detector.contract",
        "detector.core",
        "detector.model",
        "detector.writing",
        "trainer.data",
    },
    "trainer.training": {
        "detector.contract",
        "detector.core",
        "detector.model",
        "trainer.data",
        "trainer.evaluation",
    },
    "trainer": {
        "detector.contract",
        "detector.core",
        "detector.formats",
        "detector.model",
        "detector.ranges",
        "detector.version",
        "producer",
        "trainer.data",
        "trainer.evaluation",
        "trainer.training",
        "detector.writing",
    },
    "broker": {"detector.version"},
    "demo": {"detector.contract", "detector.ranges", "detector.runtime", "detector.version", "broker"},
}
"""Which of our packages each may import; the longest name that fits a module is its package."""

PRIVATE_KAFKA = (
    "kafka.cluster",
    "kafka.codec",
    "kafka.consumer",
    "kafka.net",
    "kafka.producer",
    "kafka.record",
)
DOCUMENTED_KAFKA = {"kafka.net.sasl.oauth", "kafka.net.sasl.oauth.AbstractTokenProvider"}
CONTRACT_LIBRARIES = {"msgspec"}
CORE_LIBRARIES = {"msgspec", "numpy"}


def package_of(module: str) -> str | None:
    """Return the package a module belongs to, or None if it is not ours."""
    fitting = [package for package in ALLOWED if module == package or module.startswith(f"{package}.")]
    return max(fitting, key=len, default=None)


def modules() -> list[Path]:
    """Return our modules, tests and benchmarks left out."""
    folders = sorted({package.split(".")[0] for package in ALLOWED})
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return the modules a file imports, those in functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def name_of(path: Path) -> str:
    """Return a file's dotted module name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_there_are_modules_to_look_at() -> None:
    """The tests below look at every package; none of them is empty."""
    assert {package_of(name_of(path)) for path in modules()} == set(ALLOWED)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    """A module imports only the packages below its own."""
    own = package_of(name_of(path))
    assert own is not None
    seen = {package_of(name) for name in imports(path)} - {None, own}
    assert seen <= ALLOWED[own], f"{name_of(path)} imports {seen - ALLOWED[own]}"


@pytest.mark.parametrize(
    ("package", "libraries"), [("detector.contract", CONTRACT_LIBRARIES), ("detector.core", CORE_LIBRARIES)]
)
def test_contract_and_core_do_no_io(package: str, libraries: set[str]) -> None:
    """Contract and core import nothing that could reach Kafka, a clock or the network."""
    forbidden = {"kafka", "prometheus_client", "time", "socket", "random", "threading", "os", "subprocess"}
    known = {"detector", "collections", "contextlib", "dataclasses", "enum", "typing", "uuid", "datetime", "hashlib", "bisect",
             "struct", "itertools", "fractions", "functools", "json", "math", "operator", "pathlib", "types"} | libraries  # fmt: skip
    for path in modules():
        if package_of(name_of(path)) == package:
            roots = {name.split(".")[0] for name in imports(path)}
            assert not roots & forbidden, path
            assert roots <= known, f"{path}: {roots - known}"


def test_the_console_is_a_subscriber_like_any_other() -> None:
    """The console knows the contract, how to subscribe, to explain and to give a verdict, and nothing of how alerts come about; nor do others know it."""
    allowed = {
        "detector.runtime.subscription", "detector.runtime.config", "detector.core.explaining",
        "detector.model.at_hand", "detector.model.artifact", "detector.runtime.verdicts", "detector.runtime.recovery",
    }  # fmt: skip
    behind = {"detector.runtime", "detector.core", "detector.model"}
    for path in modules():
        ours = {name for name in imports(path) if package_of(name) in behind}
        if package_of(name_of(path)) == "detector.console":
            assert all(any(name == one or name.startswith(f"{one}.") for one in allowed) for name in ours), (
                path
            )
        elif name_of(path) != "detector.cli":
            assert "detector.console" not in {package_of(name) for name in imports(path)}, path


def test_the_detector_never_needs_tensorflow() -> None:
    """TensorFlow is for training: nothing the detector, producer, broker or demo imports leads there."""
    for path in modules():
        if not (package_of(name_of(path)) or "").startswith("trainer"):
            assert not {name.split(".")[0] for name in imports(path)} & {"tensorflow", "keras", "onnx"}, path


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_private_parts_of_kafka_python_are_reached_in_one_package(path: Path) -> None:
    """What may change with any of its releases is in `detector/client/`, under tests of its own; so are its clients."""
    if package_of(name_of(path)) != "detector.client":
        private = {name for name in imports(path) if name.startswith(PRIVATE_KAFKA)} - DOCUMENTED_KAFKA
        private |= imports(path) & {"kafka.KafkaConsumer", "kafka.KafkaProducer"}
        assert not private, f"{name_of(path)} imports {private}"
        assert "SLF001" not in path.read_text(), f"{name_of(path)} reaches into something private"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_modules_stay_small(path: Path) -> None:
    """A module stays near 400 lines."""
    assert len(path.read_text().splitlines()) <= MAX_LINES
