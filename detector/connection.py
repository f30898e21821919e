"""How every client of ours reaches Kafka: the servers, TLS and SASL, as kafka-python's keyword arguments.

What secures the connection is read from the environment whenever a client is made. So it is the same for every
command, a password is in no process list, repr, log line or metric, and a secret file replaced meanwhile counts
for the next client. Imports nothing of ours, for the producer and the trainer use it too.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from kafka.errors import (
    BrokerResponseError,
    KafkaConfigurationError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    RequestTimedOutError,
)
from kafka.net.sasl.oauth import AbstractTokenProvider


class Protocol(StrEnum):
    """What goes over the connection (Kafka's `security.protocol`)."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self in {Protocol.SSL, Protocol.SASL_SSL}

    @property
    def sasl(self) -> bool:
        """Whether the client authenticates itself by SASL."""
        return self in {Protocol.SASL_PLAINTEXT, Protocol.SASL_SSL}


class Mechanism(StrEnum):
    """How a client authenticates itself: RFC 4616, RFC 5802 and RFC 7677, KIP-255 (RFC 7628)."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"
    OAUTHBEARER = "OAUTHBEARER"


_Choice = TypeVar("_Choice", Protocol, Mechanism)


class SecurityError(KafkaConfigurationError):  # type: ignore[misc]  # kafka-python is untyped
    """The security settings don't fit together, or a file of theirs can't be read. The message names the variable.

    It is a KafkaError that no retry mends, so whoever reports those reports it.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaSecurity:
    """TLS and SASL of a connection. Holds where secrets are, never a secret.

    Attributes:
        protocol: of the brokers' listener.
        ca_file: PEM of the authorities that the brokers' certificates are checked against; None: the system's.
        certificate_file: PEM of the client's certificate chain, for mutual TLS.
        key_file: PEM of its private key.
        mechanism: of SASL.
        username: for PLAIN and SCRAM.
        token_file: for OAUTHBEARER, with the token of the moment; read again at each connection.

    Raises:
        SecurityError: they don't fit together.
    """

    protocol: Protocol = Protocol.PLAINTEXT
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    mechanism: Mechanism | None = None
    username: str = ""
    token_file: Path | None = None

    def __post_init__(self) -> None:
        """Check that they fit together: a setting that would be ignored is a mistake somebody relies on."""
        for name, path in (
            ("KAFKA_SSL_CA_FILE", self.ca_file),
            ("KAFKA_SSL_CERTIFICATE_FILE", self.certificate_file),
            ("KAFKA_SSL_KEY_FILE", self.key_file),
        ):
            if path is not None and not self.protocol.tls:
                raise SecurityError(
                    f"{name} is set, and KAFKA_SECURITY_PROTOCOL is {self.protocol}, which has no TLS: expected SSL "
                    "or SASL_SSL, or the variable unset"
                )
            if path is not None and not os.access(path, os.R_OK):
                raise SecurityError(f"{name} names {path}: expected a PEM file that this user may read")
        if (self.certificate_file is None) != (self.key_file is None):
            raise SecurityError(
                "only one of KAFKA_SSL_CERTIFICATE_FILE and KAFKA_SSL_KEY_FILE is set: expected both, for mutual TLS, "
                "or neither"
            )
        if self.protocol.sasl != (self.mechanism is not None):
            raise SecurityError(
                f"KAFKA_SECURITY_PROTOCOL is {self.protocol} and KAFKA_SASL_MECHANISM {self.mechanism or 'not set'}: "
                "expected a mechanism with SASL_SSL or SASL_PLAINTEXT, and with no other"
            )
        if self.mechanism is Mechanism.OAUTHBEARER and self.token_file is None:
            raise SecurityError("KAFKA_SASL_MECHANISM is OAUTHBEARER: expected KAFKA_SASL_TOKEN_FILE")
        if self.mechanism not in {None, Mechanism.OAUTHBEARER} and not self.username:
            raise SecurityError(f"KAFKA_SASL_MECHANISM is {self.mechanism}: expected KAFKA_SASL_USERNAME")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "KafkaSecurity":
        """Return what the variables say; plain text where they say nothing.

        Raises:
            SecurityError: a value is none that is known, or they don't fit together.
        """

        def path(name: str) -> Path | None:
            return Path(environment[name]) if environment.get(name) else None

        def one_of(kind: type[_Choice], name: str) -> _Choice | None:
            if not (value := environment.get(name)):
                return None
            try:
                return kind(value)
            except ValueError:
                raise SecurityError(f"{name} is {value!r}: expected {', '.join(kind)}") from None

        return cls(
            protocol=one_of(Protocol, "KAFKA_SECURITY_PROTOCOL") or Protocol.PLAINTEXT,
            ca_file=path("KAFKA_SSL_CA_FILE"),
            certificate_file=path("KAFKA_SSL_CERTIFICATE_FILE"),
            key_file=path("KAFKA_SSL_KEY_FILE"),
            mechanism=one_of(Mechanism, "KAFKA_SASL_MECHANISM"),
            username=environment.get("KAFKA_SASL_USERNAME", ""),
            token_file=path("KAFKA_SASL_TOKEN_FILE"),
        )


class AddressError(KafkaConfigurationError):  # type: ignore[misc]  # as above
    """What is to be the brokers' addresses is none. kafka-python would raise a ValueError, or look for them without end."""


class AccessRefusedError(KafkaError):  # type: ignore[misc]  # as above
    """The brokers can be reached and don't let this client in. The message says what was seen and what to check."""


def right_missing(right: str, role: str) -> str:
    """Return what to tell a client that lacks a right, such as "to read topic a"."""
    return f"no right {right}: expected the broker to allow what `python -m detector permissions --role {role}` lists"


class _Secret(str):
    """A text that shows itself to nobody who only prints it: kafka-python logs its configuration at DEBUG."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


class _FileToken(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python is untyped
    """The token that a file holds at the moment: what rotates it (a kubelet, an agent) replaces the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def token(self) -> str:
        return _content("KAFKA_SASL_TOKEN_FILE", self._path)


def client_options(bootstrap_servers: str, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the keyword arguments of a KafkaConsumer, KafkaProducer or KafkaAdminClient that connect it.

    The brokers' certificate and host name are always checked. The result holds secrets: pass it on, don't print it.

    Args:
        bootstrap_servers: comma-separated.
        environment: where the KAFKA_SECURITY_, KAFKA_SSL_ and KAFKA_SASL_ variables are (docs/security.md).

    Raises:
        AddressError: a server is no host and port.
        SecurityError: they don't fit together, or a file can't be read.
    """
    security = KafkaSecurity.from_environment(environment)
    options: dict[str, Any] = {
        "bootstrap_servers": addresses(bootstrap_servers),
        "security_protocol": security.protocol.value,
    }
    if security.protocol.tls:
        options["ssl_check_hostname"] = True
        if security.ca_file is not None:
            options["ssl_cafile"] = str(security.ca_file)
        if security.certificate_file is not None:
            options["ssl_certfile"] = str(security.certificate_file)
            options["ssl_keyfile"] = str(security.key_file)
            if password := secret("KAFKA_SSL_KEY_PASSWORD", environment):
                options["ssl_password"] = password
    if security.mechanism is not None:
        options["sasl_mechanism"] = security.mechanism.value
        if security.token_file is not None and security.mechanism is Mechanism.OAUTHBEARER:
            options["sasl_oauth_token_provider"] = _FileToken(security.token_file)
        else:
            if not (password := secret("KAFKA_SASL_PASSWORD", environment)):
                raise SecurityError(
                    f"KAFKA_SASL_MECHANISM is {security.mechanism}: expected KAFKA_SASL_PASSWORD_FILE, or "
                    "KAFKA_SASL_PASSWORD"
                )
            options["sasl_plain_username"] = security.username
            options["sasl_plain_password"] = password
    return options


_ADDRESS = re.compile(r"(?:\w+://)?(?:\[[\dA-Fa-f:.]+(?:%\w+)?\]|[^\s:/\[\]@]+)(?::(\d{1,5}))?", re.ASCII)
"""A host, as a name or an address, IPv6 in brackets; and its port, 9092 if it says none, as of kafka-python."""
_MAX_PORT = 65_535


def addresses(bootstrap_servers: str) -> list[str]:
    """Return the brokers' addresses of a setting, that has commas between them.

    Raises:
        AddressError: one is no host and port.
    """
    told = [one.strip() for one in bootstrap_servers.split(",")]
    for one in told:
        found = _ADDRESS.fullmatch(one)
        if found is None or not 1 <= int(found[1] or 1) <= _MAX_PORT:
            raise AddressError(
                f"the Kafka broker's address {one!r} is no host and port: expected HOST:PORT with a port from 1 to {_MAX_PORT}, "
                "several with commas between; see --bootstrap-servers and KAFKA_BOOTSTRAP_SERVERS"
            )
    return told


@contextmanager
def access_explained(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Make the client's first connection in this block; says why it was refused, where kafka-python only waits.

    kafka-python tries a refused login again until its time is up, and then tells of nothing but the time
    (seen with 3.0.12). What it saw at each attempt is in its log only.

    Raises:
        AccessRefusedError: the brokers answer, and refuse this client.
        KafkaTimeoutError: no broker answers; it may come back.
    """
    attempts = _Attempts()
    log = logging.getLogger("kafka.net.manager")
    level = log.level
    log.addHandler(attempts)
    log.setLevel(min(log.getEffectiveLevel(), logging.WARNING))
    try:
        yield
    except KafkaTimeoutError as error:
        if refusal := attempts.refusal(KafkaSecurity.from_environment(environment)):
            raise AccessRefusedError(refusal) from error
        raise
    finally:
        log.setLevel(level)
        log.removeHandler(attempts)


class _Attempts(logging.Handler):
    """How kafka-python's connections failed, as told by the exceptions in its log."""

    def __init__(self) -> None:
        super().__init__()
        self._errors: list[Exception] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Remember the exceptions that a line is about, but for the time that is up at the end of the attempts."""
        if isinstance(record.args, tuple):
            self._errors += [
                one
                for one in record.args
                if isinstance(one, Exception) and not isinstance(one, KafkaTimeoutError)
            ]

    def refusal(self, security: KafkaSecurity) -> str:
        """Return what to tell of the refusal, or nothing if there was none."""
        for error in self._errors:
            # A request that got no answer in time counts as an answer in kafka-python, one that may be another later.
            if isinstance(error, BrokerResponseError) and not error.retriable:
                return (
                    f"the broker refuses this client: {error}. Expected a user, password or token that it knows: "
                    f"{_CHECK_LOGIN}"
                )
        if tls := [str(error) for error in self._errors if _TLS in str(error)]:
            return (
                f"no TLS connection: {tls[-1]}. Expected a port that speaks TLS, whose certificate is for the name it "
                f"is called by and of an authority in KAFKA_SSL_CA_FILE; {_CHECK_CERTIFICATE}"
            )
        errors = self._errors
        if errors and isinstance(errors[-1], RequestTimedOutError):
            errors = errors[:-1]  # the attempt that the end of the time cut short says nothing
        closed = [error for error in errors if _CLOSED in str(error)]
        if closed and security.protocol is not Protocol.PLAINTEXT and len(closed) == len(errors):
            # The broker's last word gets lost in kafka-python when the end of the connection comes with it.
            asked = _CHECK_LOGIN if security.protocol.sasl else _CHECK_CERTIFICATE
            return (
                f"the broker accepted and then closed all of {len(closed)} connections before they were ready. "
                f"Expected to be let in: {asked}; its log has the reason"
            )
        return ""


_TLS = "[SSL: "
_CLOSED = str(KafkaConnectionError("socket disconnected"))
_CHECK_LOGIN = "check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and the password or token (docs/security.md)"
_CHECK_CERTIFICATE = "check KAFKA_SSL_CERTIFICATE_FILE and KAFKA_SSL_KEY_FILE if it asks for a client's certificate (docs/security.md)"


def secret(name: str, environment: Mapping[str, str]) -> str:
    """Return a secret of the variable, or of the file that the variable `<name>_FILE` names; "" without either."""
    given, path = environment.get(name, ""), environment.get(f"{name}_FILE", "")
    if given and path:
        raise SecurityError(f"both {name} and {name}_FILE are set: expected one of them")
    return _Secret(_content(f"{name}_FILE", Path(path)) if path else given)


def _content(name: str, path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SecurityError(f"{name} names {path}, which can't be read: {reason}") from None
    if not text:
        raise SecurityError(f"{name} names {path}, which is empty: expected the secret in it")
    return text
