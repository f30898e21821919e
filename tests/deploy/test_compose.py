"""The Compose file, the image and what Prometheus scrapes fit the programs they run."""

import re
import shlex
from dataclasses import fields
from typing import Any

import click
import pytest
import yaml

from broker.container import IMAGE
from detector.cli import run
from detector.contract.topics import verdicts_specifications
from detector.runtime.config import DetectorConfig
from detector.runtime.settings import environment_variable_of
from detector.runtime.topics import specifications
from detector.verdicts import relay_verdicts
from detector.version import VERSION
from producer.commands.simulate import simulate
from tests.deploy.compose import ROOT, environment_of, services

NAMES = sorted(services())
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")


def settings(command: click.Command, environment: dict[str, str], patch: pytest.MonkeyPatch) -> Any:
    """Return what `command` makes of `environment` and no flags."""
    for option in command.params:
        for name in [option.envvar] if isinstance(option.envvar, str) else option.envvar or []:
            patch.delenv(name, raising=False)
    for name, value in environment.items():
        patch.setenv(name, value)
    return command.make_context(command.name, []).params


def config_of(
    command: click.Command, environment: dict[str, str], patch: pytest.MonkeyPatch
) -> DetectorConfig:
    """Return the settings of a detector's command, as its own command line reads them."""
    read = settings(command, environment, patch)
    return DetectorConfig(**{one.name: read[one.name] for one in fields(DetectorConfig) if one.name in read})


def config(patch: pytest.MonkeyPatch) -> DetectorConfig:
    """Return the detector's settings in the stack."""
    return config_of(run, environment_of("detector"), patch)


def test_the_stack_has_every_part() -> None:
    """Broker, topics, detector, traffic, Prometheus and Grafana: no part is left to the user."""
    assert NAMES == ["detector", "grafana", "kafka", "producer", "prometheus", "relay", "topics"]


def test_the_detector_is_set_by_settings_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is one of the detector's, and its command line takes the values."""
    known = {environment_variable_of(one) for one in fields(DetectorConfig)}
    assert set(environment_of("detector")) <= known
    detector = config(monkeypatch)
    assert detector.bootstrap_servers == "kafka:9092"
    assert not detector.create_topics
    assert detector.metrics_host == "0.0.0.0"  # noqa: S104  inside the container; the port is not published


def test_the_relay_is_set_by_settings_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is one of its own, its health is asked for where it serves it, and Prometheus looks there."""
    relay = services()["relay"]
    assert relay["command"] == ["python", "-m", "detector", "relay-verdicts"]
    assert set(environment_of("relay")) <= {option.envvar for option in relay_verdicts.params}
    parsed = config_of(relay_verdicts, environment_of("relay"), monkeypatch)
    detector = config(monkeypatch)
    assert relay["healthcheck"] == services()["detector"]["healthcheck"]
    for name in ("bootstrap_servers", "input_topic", "verdicts_topic", "metrics_host", "metrics_port"):
        assert getattr(parsed, name) == getattr(detector, name)
    assert not parsed.create_topics
    assert scraped()["relay"] == {"names": ["relay"], "port": parsed.metrics_port}


def test_the_simulator_is_set_by_settings_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is one of the simulator's options, and its command line takes the values."""
    assert services()["producer"]["command"] == ["python", "-m", "producer", "simulate"]
    known = {option.envvar for option in simulate.params}
    assert set(environment_of("producer")) <= known
    parsed = settings(simulate, environment_of("producer"), monkeypatch)
    assert parsed["bootstrap_servers"] == "kafka:9092"
    # A detector refuses the future and forgets the past: traffic without end must keep to the clock.
    assert parsed["real_time"] is True
    assert services()["producer"]["restart"] == "unless-stopped"


def test_topics_are_created_as_the_detector_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """And as the relay would. Names, partitions and settings are those of the contract and of the state topic: none more, none less."""
    script = services()["topics"]["command"][0].replace("$$", "$")
    partitions = int(re.search(r"--partitions (\d+)", script)[1])  # type: ignore[index]
    created = {}
    for line in script.splitlines():
        match shlex.split(line):
            case ["create", name, *options]:
                assert options[::2] == ["--config"] * (len(options) // 2)
                created[name] = (partitions, dict(one.split("=", 1) for one in options[1::2]))
    detector = config(monkeypatch)
    of_relay = verdicts_specifications(detector.verdicts_topic, detector.partitions)
    wanted = {one.name: (one.partitions, one.configs) for one in (*specifications(detector), *of_relay)}
    assert created == wanted


def test_the_broker_is_the_one_that_is_tested_against() -> None:
    """Kafka has the version and the image that the tests' own broker has."""
    assert services()["kafka"]["image"] == services()["topics"]["image"] == IMAGE


@pytest.mark.parametrize("name", NAMES)
def test_images_are_pinned(name: str) -> None:
    """No image can change under a user's feet: each names a full version."""
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", services()[name]["image"])


def test_base_images_are_pinned() -> None:
    """The same holds for what the image is built from."""
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    stages = set(re.findall(r" AS (\S+)", DOCKERFILE))
    assert {base for base in bases if base not in stages} == {"python:3.11.13-slim-bookworm"}


def test_the_image_has_the_version_of_the_project() -> None:
    """The tag of the detector's and the simulator's image is the project's version, and they share the image."""
    for name in ("detector", "relay", "producer"):
        assert services()[name]["image"] == f"session-fraud-detector:{VERSION}"


@pytest.mark.parametrize("name", NAMES)
def test_published_ports_are_this_machine_s_only(name: str) -> None:
    """Nothing listens to the network."""
    service = services()[name]
    assert "network_mode" not in service
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", NAMES)
def test_every_service_is_confined(name: str) -> None:
    """Each has bounds on CPU, memory and log files, no capabilities, no way to more, and a restart policy."""
    service = services()[name]
    limits = service["deploy"]["resources"]["limits"]
    assert float(limits["cpus"]) <= 2
    assert re.fullmatch(r"\d+[mg]", limits["memory"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert service["restart"] == ("on-failure:5" if name == "topics" else "unless-stopped")
    assert "privileged" not in service


def test_nothing_starts_before_what_it_needs() -> None:
    """Each dependency states its condition, and whoever is waited for to be healthy has a health check."""
    waits = {
        name: {needed: how["condition"] for needed, how in service.get("depends_on", {}).items()}
        for name, service in services().items()
    }
    assert waits["topics"] == {"kafka": "service_healthy"}
    assert (
        waits["detector"]
        == waits["relay"]
        == waits["producer"]
        == {"topics": "service_completed_successfully"}
    )
    for conditions in waits.values():
        for needed, condition in conditions.items():
            if condition == "service_healthy":
                assert "healthcheck" in services()[needed]


def test_the_image_runs_as_nobody_in_particular_on_a_read_only_file_system() -> None:
    """The user is a number other than root's, and the services of our image write to memory only."""
    user = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)[-1]
    assert int(user) >= 10_000
    for name in ("detector", "relay", "producer"):
        assert services()[name]["read_only"] is True
        assert services()[name]["tmpfs"] == ["/tmp"]  # noqa: S108  the container's own
        assert "volumes" not in services()[name]


def test_python_gets_the_signals() -> None:
    """The command is a list, not a shell's line: SIGTERM reaches Python, which has time to end well."""
    assert 'CMD ["python", "-m", "detector", "run"]' in DOCKERFILE
    for name in ("detector", "relay", "producer"):
        assert services()[name]["stop_grace_period"].endswith("s")
    assert "command" not in services()["detector"]


def scraped() -> dict[str, dict[str, Any]]:
    """Return the names and the port that Prometheus looks for, by job."""
    told = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    found = {
        job["job_name"]: job["dns_sd_configs"] for job in told["scrape_configs"] if "dns_sd_configs" in job
    }
    return {name: {key: only[key] for key in ("names", "port")} for name, (only,) in found.items()}


def test_everybody_looks_for_the_metrics_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Health check, Prometheus and the image name the port that the detector serves."""
    port = config(monkeypatch).metrics_port
    assert f"http://127.0.0.1:{port}/healthz" in services()["detector"]["healthcheck"]["test"][-1]
    assert f"EXPOSE {port}" in DOCKERFILE
    assert scraped()["detector"] == {"names": ["detector"], "port": port}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_mounted_exists(name: str) -> None:
    """A folder that is missing would be created, empty and owned by root, and nobody told."""
    for volume in services()[name].get("volumes", []):
        source, _target, *mode = volume.split(":")
        if source.startswith("."):
            assert any((ROOT / source).iterdir())
            assert mode == ["ro"]
