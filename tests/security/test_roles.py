"""Each command beside the detector with the rights of its role and no others, on a broker with TLS, SCRAM and ACLs."""

import subprocess
from dataclasses import replace
from pathlib import Path
from shutil import copy

import pytest

from detector.model.artifact import packaged_model_path
from detector.runtime.config import DetectorConfig
from detector.runtime.permissions import Role, permissions
from tests import commands
from tests.conftest import UniqueName
from tests.console.serving import console
from tests.console.stream import stream
from tests.runtime.stack import Stack, alerts_of
from tests.runtime.test_end_to_end import records, sessions, valid
from tests.security.conftest import PASSWORD, SecuredBroker

CHECK = "detector check-topic --model seed"
"""Ends with exit code 1, as it finds the dead letters that are there, and with 2 if it could not look."""
RUNS: dict[Role, tuple[str, ...]] = {
    Role.SUBSCRIBER: ("detector alerts --from-beginning --max 1",),
    Role.PRODUCER: ("producer simulate --sessions 5 --rate 1000",),
    Role.ACCOUNTS: (
        "detector accounts deny a-1",
        "detector accounts allow a-2",
        "detector accounts list",
        "detector accounts sync",
        "detector accounts clear a-1",
    ),
    Role.REDRIVE: ("detector redrive --dry-run", "detector redrive --max 1"),
    Role.REPLAY: (
        "detector replay --model seed --out {folder}/alerts",
        "detector replay --models {folder} --out {folder}/alerts",
        "detector backtest --model seed --model default --topic {input}",
    ),
    Role.CHECK_TOPIC: (CHECK,),
    Role.EXPLAIN: ("detector explain --follow --max 1",),
    Role.VERDICT: (
        "detector verdict --by x --session s --account a fraud",
        "detector verdict --by x --alert {alert} lawful",
    ),
    Role.RELAY_VERDICTS: ("detector relay-verdicts --max 1",),
}
"""What a role does; the detector itself is in tests/security/test_secured_broker.py, the console below."""


def run(
    command: str, config: DetectorConfig, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command on the topics of a detector."""
    names = {
        "DETECTOR_GROUP": config.group,
        "DETECTOR_INPUT_TOPIC": config.input_topic,
        "DETECTOR_ALERTS_TOPIC": config.alerts_topic,
        "DETECTOR_VERDICTS_TOPIC": config.verdicts_topic,
        "PRODUCER_TOPIC": config.input_topic,
    }
    module, *arguments = command.split()
    return commands.run(module, *arguments, **names, **environment)


@pytest.fixture(scope="module")
def config(secured: SecuredBroker, tmp_path_factory: pytest.TempPathFactory) -> DetectorConfig:
    """A detector that has left alerts, which model decided, and dead letters that were cut; all topics are there."""
    stack = Stack(secured.plain, "roles", tmp_path_factory.mktemp("roles"), max_dead_letter_bytes=50)
    unknown = [(b"s", valid("s", number, "FLY")) for number in range(20)]
    stack.publish([*records(sessions(22)), *unknown])
    with stack.worker():
        stack.wait_until_processed()
    assert len(stack.alerts()) > 1  # one for each of the runs that explain one
    for command in (
        "detector accounts deny a-0",
        "detector redrive --max 1",
        "detector explain --follow --max 1",
        "detector verdict --by x --session s --account a fraud",
        "detector verdict --by x --session s --account a lawful",
        "detector relay-verdicts --max 1",
    ):
        done = run(command, stack.config, {"KAFKA_BOOTSTRAP_SERVERS": secured.plain})
        assert done.returncode == 0, done.stderr
    return stack.config


@pytest.mark.parametrize("role", list(RUNS))
def test_a_role_works_with_its_rights_and_no_others(
    role: Role, secured: SecuredBroker, config: DetectorConfig, unique_name: UniqueName, tmp_path: Path
) -> None:
    """Allowed what docs/security.md lists, each of its commands does its work, and shows no password.

    Without any one of the rights some command ends with an error that is told in words.
    """
    copy(packaged_model_path("seed"), tmp_path)
    needed = permissions(replace(config, create_topics=False), role)
    user = unique_name(role)
    secured.set_password(user, PASSWORD)
    secured.allow(user, needed)
    environment = secured.sasl_environment("SCRAM-SHA-512", user)
    (alert, *_) = alerts_of(replace(config, bootstrap_servers=secured.plain))
    commands = [
        one.format(folder=tmp_path, input=config.input_topic, alert=alert.alert_id) for one in RUNS[role]
    ]
    for command in commands:
        done = run(command, config, environment)
        assert done.returncode == (command == CHECK), f"{command}\n{done.stderr}"
        assert PASSWORD not in done.stdout + done.stderr
    for missing in needed:
        secured.forbid(user, missing)
        done_all = {command: run(command, config, environment) for command in commands}
        failed = [done for command, done in done_all.items() if done.returncode > (command == CHECK)]
        assert failed, f"nothing needs {missing}"
        for done in failed:
            assert "Traceback" not in done.stderr, done.stderr
            assert done.stderr.splitlines()[-1].startswith("Error: "), done.stderr
        secured.allow(user, [missing])


def test_the_console_works_with_its_rights_and_tells_what_it_may_not_read(
    secured: SecuredBroker, config: DetectorConfig, unique_name: UniqueName, tmp_path: Path
) -> None:
    """With both rights it shows alerts and verdicts; without that on verdicts the alerts, and why there is no more."""
    alerts, verdicts = permissions(replace(config, create_topics=False), Role.CONSOLE)
    user, folder = unique_name("console"), tmp_path
    secured.set_password(user, PASSWORD)
    secured.allow(user, [alerts])
    environment = secured.sasl_environment("SCRAM-SHA-512", user)
    arguments = ["--topic", config.alerts_topic, "--verdicts-topic", config.verdicts_topic]
    with console(arguments, folder / "console.log", **environment) as page, stream(page.url) as viewer:
        viewer.wait_for(lambda: viewer.verdicts_link.get("link") == "unreachable", "the refusal")
        assert viewer.verdicts_link["detail"] == "AccessRefusedError"
        assert viewer.alerts
        assert viewer.link["link"] == "live"
        secured.allow(user, [verdicts])
        viewer.wait_for(lambda: viewer.verdicts_link["link"] == "live", "the verdicts")
    assert PASSWORD not in (folder / "console.log").read_text()
    assert "--role console" in (folder / "console.log").read_text()
