"""What secures a connection: settings that don't fit together are refused, and secrets are shown nowhere."""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from detector.cli import main
from detector.connection import AddressError, KafkaSecurity, SecurityError, client_options
from detector.runtime.config import DetectorConfig
from detector.runtime.permissions import Role, permissions
from detector.runtime.pseudonyms import KeyRefusedError, Pseudonyms
from producer.cli import main as producer
from trainer.cli import main as trainer


def test_nothing_set_is_plain_text() -> None:
    """Without variables the connection is plain text, as on a developer's machine."""
    assert client_options("a:1,b:2", {}) == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
    }


@pytest.mark.parametrize(
    "servers", ["a:1", "a", "10.0.0.1:65535", "[::1]:9092", "SSL://a.b-c:9093", "a:1, b:2"]
)
def test_addresses_are_hosts_with_ports(servers: str) -> None:
    """What kafka-python takes is taken, an address without a port for one with Kafka's own."""
    assert client_options(servers, {})["bootstrap_servers"] == servers.replace(" ", "").split(",")


_NO_ADDRESSES = (
    "a:b",
    "a:0",
    "a:65536",
    "a:-1",
    "a:",
    ":9092",
    "",
    "a:1,",
    "a b:1",
    "::1:9092",
    "a:1:2",
    "[::1",
    "a:\u0661",
)


@pytest.mark.parametrize("servers", _NO_ADDRESSES)
def test_what_is_no_address_is_refused(servers: str) -> None:
    """An address that can be none is refused with what was seen and expected: no traceback, no search without end."""
    with pytest.raises(AddressError, match="is no host and port: expected HOST:PORT"):
        client_options(servers, {})


@pytest.mark.parametrize(
    ("program", "command"),
    [
        *((main, one) for one in (
            "run", "alerts", "replay --out alerts.jsonl", "redrive", "explain --follow", "accounts list", "accounts allow a",
            "verdict fraud --session s --account a --by b", "relay-verdicts", "console",
            "backtest --model seed --model default --topic t",
        )),
        (producer, "simulate --sessions 1"),
        (producer, "replay labels.jsonl"),
        (trainer, "train --topic t --out model.onnx"),
        (trainer, "evaluate --topic t --model seed"),
    ],
)  # fmt: skip
def test_every_command_refuses_what_is_no_address(
    program: click.Group, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever command is given a port that is none says so at once, and ends."""
    monkeypatch.chdir(tmp_path)
    Path("labels.jsonl").write_bytes(b"")
    result = CliRunner().invoke(program, [*command.split(), "--bootstrap-servers", "localhost:0"])
    assert result.exit_code in {1, 2}, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert "'localhost:0' is no host and port: expected HOST:PORT" in result.output.replace("\n", " ")


def test_a_password_file_is_read_when_a_client_is_made(tmp_path: Path) -> None:
    """A password rotated in its file counts for the next client; the line's end is no part of it."""
    file = tmp_path / "password"
    environment = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": "detector",
        "KAFKA_SASL_PASSWORD_FILE": str(file),
    }
    for password in ("first", "second"):
        file.write_text(f"{password}\n")
        assert client_options("a:1", environment)["sasl_plain_password"] == password


def test_the_settings_hold_no_secret() -> None:
    """What may be logged or printed does not have the password in it."""
    environment = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "detector",
        "KAFKA_SASL_PASSWORD": "correct-horse",
    }
    assert "correct-horse" not in repr(KafkaSecurity.from_environment(environment))
    options = client_options("a:1", environment)
    assert options["sasl_plain_password"] == environment["KAFKA_SASL_PASSWORD"]
    assert "correct-horse" not in f"{options}", "kafka-python logs them at DEBUG"


_SCRAM = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
    "KAFKA_SASL_USERNAME": "detector",
}


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "KAFKA_SECURITY_PROTOCOL"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SASL_MECHANISM"),
        ({"KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "a"}, "KAFKA_SECURITY_PROTOCOL"),
        ({"KAFKA_SSL_CA_FILE": __file__}, "KAFKA_SECURITY_PROTOCOL"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_FILE": "/nowhere"}, "KAFKA_SSL_CA_FILE"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_KEY_FILE": __file__}, "KAFKA_SSL_CERTIFICATE_FILE"),
        (_SCRAM, "KAFKA_SASL_PASSWORD"),
        (_SCRAM | {"KAFKA_SASL_USERNAME": ""}, "KAFKA_SASL_USERNAME"),
        (_SCRAM | {"KAFKA_SASL_PASSWORD_FILE": "/nowhere"}, "KAFKA_SASL_PASSWORD_FILE"),
        (_SCRAM | {"KAFKA_SASL_PASSWORD": "a", "KAFKA_SASL_PASSWORD_FILE": __file__}, "both"),
        (_SCRAM | {"KAFKA_SASL_MECHANISM": "OAUTHBEARER"}, "KAFKA_SASL_TOKEN_FILE"),
    ],
)
def test_what_does_not_fit_is_refused(environment: dict[str, str], named: str) -> None:
    """A setting that is unknown, missing, unreadable or would be ignored is refused, by its variable's name."""
    with pytest.raises(SecurityError, match=named):
        client_options("a:1", environment)


def test_the_page_lists_the_least_privilege() -> None:
    """docs/security.md lists the very permissions that the test on a real broker applies, and no other."""
    page = (Path(__file__).parent.parent.parent / "docs/security.md").read_text()
    rows = re.findall(
        r"^\| (topic|group|transactional-id) \| `([^`]+)`( and what begins with it)? \| (\w+) \|",
        page,
        re.MULTILINE,
    )
    config = DetectorConfig(create_topics=False)
    needed = permissions(config)
    assert [(kind, name, bool(prefixed), operation) for kind, name, prefixed, operation in rows] == [
        (one.resource.value, one.name, one.prefixed, one.operation) for one in needed
    ]
    others = re.findall(
        r"^\| `([\w-]+)` \| (topic|group|transactional-id) \| `([^`]+)`(?: and what begins with it)? \| (\w+) \|",
        page,
        re.MULTILINE,
    )
    assert others == [
        (role.value, one.resource.value, one.name, one.operation)
        for role in Role
        if role is not Role.DETECTOR
        for one in permissions(config, role)
    ]


def test_a_permission_is_a_call_of_kafkas_tool() -> None:
    """The command prints one call for each permission, with the names in use; creating topics needs more."""
    told = CliRunner().invoke(main, ["permissions", "--group", "g", "--principal", "User:d"])
    assert told.exit_code == 0
    assert (
        "kafka-acls --add --allow-principal User:d --operation Write --transactional-id g/ "
        "--resource-pattern-type prefixed"
    ) in told.output
    fewer = CliRunner().invoke(main, ["permissions", "--no-create-topics"])
    assert len(fewer.output.splitlines()) < len(told.output.splitlines())
    assert "--operation Create" in told.output
    assert "--operation Create" not in fewer.output
    for tried in (["--shadow-model", "new.onnx"], ["--rules", "rules.toml"]):
        shadowed = CliRunner().invoke(main, ["permissions", *tried, "--alerts-topic", "a"])
        assert "--operation Write --topic a.shadow " in shadowed.output
    other = CliRunner().invoke(main, ["permissions", "--role", "producer", "--input-topic", "in"])
    assert (
        other.output.partition("  #")[0]
        == "kafka-acls --add --allow-principal User:producer --operation Write --topic in"
    )


def test_pseudonyms_are_alike_for_one_key_and_differ_between_two(tmp_path: Path) -> None:
    """The same id and key give the same pseudonym, in the command too; another key or id gives another."""
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef\n")
    here = Pseudonyms.from_file(key)
    assert here.of("account-42") == Pseudonyms(b"0123456789abcdef").of("account-42")
    assert here.of("account-42") != here.of("account-43")
    assert here.of("account-42") != Pseudonyms(b"0123456789abcdeX").of("account-42")
    assert Pseudonyms.from_file(None).of("a") != Pseudonyms.from_file(None).of("a")
    told = CliRunner().invoke(main, ["pseudonym", "--key-file", str(key), "account-42"])
    assert told.output == f"{here.of('account-42')} account-42\n"


@pytest.mark.parametrize("content", [b"", b"too short", b"x" * 65], ids=["empty", "short", "long"])
def test_a_weak_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """A key that is too short to be secret, or longer than the hash takes, is refused with its length."""
    key = tmp_path / "key"
    key.write_bytes(content)
    with pytest.raises(KeyRefusedError, match=f"{len(content)} bytes"):
        Pseudonyms.from_file(key)
    refused = CliRunner().invoke(main, ["run", "--pseudonym-key-file", str(key)])
    assert refused.exit_code == 2
    assert "16 to 64" in refused.output
