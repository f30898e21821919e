"""Settings of the console, and the rule that it shows nothing to a network without a token."""

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from detector.contract.topics import VERDICTS_TOPIC
from detector.runtime.config import ConfigurationError, DetectorConfig

TOKEN_VARIABLE = "DETECTOR_CONSOLE_TOKEN"  # noqa: S105  the variable's name
ANALYST_TOKEN_VARIABLE = "DETECTOR_CONSOLE_ANALYST_TOKEN"  # noqa: S105  likewise
SEND_TIMEOUT_S = 60.0
"""A page that takes nothing for so long is cut off."""
MIN_TOKEN_CHARS = 16
"""With so many random characters guessing is hopeless, and needs no lock-out that would shut out its users."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsoleConfig:
    """Settings of `python -m detector console`.

    Attributes:
        bootstrap_servers: comma-separated.
        topic: of the alerts.
        host: address, or name of one, to listen on.
        port: 0 takes a free one.
        token: what a viewer must present; None asks for none, which only loopback may.
        analyst_token: what who gives verdicts must present in its place; None lets nobody.
        verdicts_topic: where verdicts are read from, and given to.
        metrics_urls: of the workers' /metrics.
        keep: most alerts held in memory, the newest.
        models: folder of models that alerts may name, beside the packaged ones.
        runbook_url: of the runbook's page, that conditions link to; empty links to none.

    Raises:
        ConfigurationError: a setting is out of its bounds, or the console would be open to a network.
    """

    bootstrap_servers: str
    topic: str
    host: str
    port: int
    token: str | None = field(repr=False)
    metrics_urls: tuple[str, ...]
    keep: int
    models: Path | None
    analyst_token: str | None = field(default=None, repr=False)
    verdicts_topic: str = VERDICTS_TOPIC
    runbook_url: str = ""

    def __post_init__(self) -> None:
        """Check the bounds."""
        for token in filter(None, (self.token, self.analyst_token)):
            _check(token)
        if self.analyst_token is not None and self.token in {None, self.analyst_token}:
            raise ConfigurationError(
                f"there is a token for verdicts: expected another one for who only looks on; set {TOKEN_VARIABLE} or "
                "--token-file"
            )
        _ = self.publishing  # names that clash are refused
        if self.token is None and not self.loopback:
            raise ConfigurationError(
                f"--host is {self.host}, which others can reach, and there is no token: alerts hold the ids of "
                f"accounts. Set {TOKEN_VARIABLE}, or --token-file, or listen on 127.0.0.1"
            )
        for url in self.metrics_urls:
            _check_url("--metrics-url", url, "http://127.0.0.1:9108/metrics")
        if self.runbook_url:  # a page links to it: no script's address
            _check_url("--runbook-url", self.runbook_url, "https://docs.example/runbook.html")

    @property
    def publishing(self) -> DetectorConfig:
        """Where verdicts are published."""
        return DetectorConfig(
            bootstrap_servers=self.bootstrap_servers,
            alerts_topic=self.topic,
            verdicts_topic=self.verdicts_topic,
        )

    @property
    def address(self) -> tuple[socket.AddressFamily, str]:
        """The family and the numeric address to listen on."""
        try:
            family, *_, address = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise ConfigurationError(f"--host is {self.host!r}, which names no address: {error}") from error
        return family, str(address[0])

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the console."""
        return ipaddress.ip_address(self.address[1].partition("%")[0]).is_loopback


def _check_url(option: str, url: str, example: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(f"{option} is {url!r}: expected such as {example}")


def _check(token: str) -> None:
    if len(token) < MIN_TOKEN_CHARS:
        raise ConfigurationError(
            f"the console's token has {len(token)} characters: expected at least {MIN_TOKEN_CHARS}, "
            'random. python -c "import secrets; print(secrets.token_urlsafe(32))" makes one'
        )
    if not (token.isascii() and token.isprintable()):
        raise ConfigurationError(
            "the console's token has characters that no HTTP header can carry: use ASCII"
        )


def read_token(
    environment: Mapping[str, str], path: Path | None, variable: str = TOKEN_VARIABLE
) -> str | None:
    """Return the token of the file or else of the environment; None if neither is set.

    Raises:
        ConfigurationError: the file can't be read, or both are set.
    """
    given = environment.get(variable)
    if path is None:
        return given or None
    if given:
        raise ConfigurationError(f"both a file and {variable} are set: expected one of them")
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"--token-file {path} can't be read: {error}") from error
