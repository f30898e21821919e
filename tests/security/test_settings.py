"""What secures a connection: settings that don't fit together are refused, and secrets are shown nowhere."""

from pathlib import Path

import pytest

from detector.connection import KafkaSecurity, SecurityError, client_options


def test_nothing_set_is_plain_text() -> None:
    """Without variables the connection is plain text, as on a developer's machine."""
    assert client_options("a:1,b:2", {}) == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
    }


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
    assert client_options("a:1", environment)["sasl_plain_password"] == environment["KAFKA_SASL_PASSWORD"]


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
