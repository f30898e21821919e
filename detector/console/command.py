"""`python -m detector console`."""

import importlib.util
import logging
import os
import signal
import socket
from pathlib import Path

import click

from detector.console.config import ANALYST_TOKEN_VARIABLE, SEND_TIMEOUT_S, ConsoleConfig, read_token
from detector.contract.topics import ALERTS_TOPIC, VERDICTS_TOPIC
from detector.runtime.config import ConfigurationError

_LOG = logging.getLogger(__name__)
_LIBRARIES = ("starlette", "uvicorn", "sse_starlette", "httpx2", "itsdangerous")
_GRACE_S = 3
MAX_CONNECTIONS = 200


@click.command()
@click.option(
    "--bootstrap-servers", default="127.0.0.1:9092", envvar="KAFKA_BOOTSTRAP_SERVERS", show_envvar=True
)
@click.option("--topic", default=ALERTS_TOPIC, envvar="DETECTOR_ALERTS_TOPIC", show_envvar=True)
@click.option(
    "--host",
    default="127.0.0.1",
    envvar="DETECTOR_CONSOLE_HOST",
    show_envvar=True,
    help="Address to listen on; any but loopback needs a token.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=9109,
    envvar="DETECTOR_CONSOLE_PORT",
    show_envvar=True,
    help="0 takes a free one.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="DETECTOR_CONSOLE_TOKEN_FILE",
    show_envvar=True,
    help="File with the token that viewers must present; or set DETECTOR_CONSOLE_TOKEN.",
)
@click.option(
    "--analyst-token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="DETECTOR_CONSOLE_ANALYST_TOKEN_FILE",
    show_envvar=True,
    help="File with the token of those who may give verdicts; or set DETECTOR_CONSOLE_ANALYST_TOKEN. Without, nobody may.",
)
@click.option(
    "--verdicts-topic",
    default=VERDICTS_TOPIC,
    envvar="DETECTOR_VERDICTS_TOPIC",
    show_envvar=True,
    help="Whose verdicts take alerts out of the queue; it need not exist.",
)
@click.option(
    "--metrics-url",
    "metrics_urls",
    multiple=True,
    envvar="DETECTOR_CONSOLE_METRICS_URLS",
    show_envvar=True,
    help="A worker's /metrics, to show health and throughput; may be given more than once.",
)
@click.option(
    "--keep",
    type=click.IntRange(1, 10_000),
    default=1_000,
    envvar="DETECTOR_CONSOLE_KEEP",
    show_envvar=True,
    help="Most alerts kept in memory and shown, the newest.",
)
@click.option(
    "--models",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="DETECTOR_CONSOLE_MODELS",
    show_envvar=True,
    help="Folder of every model that was in service, to explain alerts by; the packaged ones are known.",
)
@click.option(
    "--runbook-url",
    default="",
    envvar="DETECTOR_CONSOLE_RUNBOOK_URL",
    show_envvar=True,
    help="Where your people find the runbook's page, for the page to link to what is to be done.",
)
def console(
    *,
    bootstrap_servers: str,
    topic: str,
    host: str,
    port: int,
    token_file: Path | None,
    analyst_token_file: Path | None,
    verdicts_topic: str,
    metrics_urls: tuple[str, ...],
    keep: int,
    models: Path | None,
    runbook_url: str,
) -> None:
    """Serve a web page that shows alerts as they commit, until SIGTERM or SIGINT.

    Read-only, but for verdicts by who has the token for them. It listens on loopback, unless a token is set that every viewer must present.
    """
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"the console needs {', '.join(missing)}, not installed here: "
            "pip install 'session-fraud-detector[console]'"
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name, level in {
        "kafka": logging.CRITICAL,
        "httpx2": logging.WARNING,
        "uvicorn": logging.WARNING,
    }.items():
        logging.getLogger(name).setLevel(level)
    try:
        config = ConsoleConfig(
            bootstrap_servers=bootstrap_servers,
            topic=topic,
            host=host,
            port=port,
            token=read_token(os.environ, token_file),
            analyst_token=read_token(os.environ, analyst_token_file, ANALYST_TOKEN_VARIABLE),
            verdicts_topic=verdicts_topic,
            metrics_urls=metrics_urls,
            keep=keep,
            models=models,
            runbook_url=runbook_url,
        )
        family, address = config.address
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    try:
        listening = listen(address, port, family)
    except OSError as error:
        raise click.ClickException(
            f"the console can't listen on {host}:{port}: {error.strerror}. Expected a free port of this machine: "
            "choose another with --port, 0 for any"
        ) from error
    with listening:
        _serve(config, listening)


def listen(
    address: str, port: int, family: socket.AddressFamily, send_timeout_s: float = SEND_TIMEOUT_S
) -> socket.socket:
    """Return a listening socket whose connections the system ends once a peer takes nothing for so long.

    Without it a page that stopped reading holds its connection for ever: closing one waits for what is not yet sent.

    Raises:
        OSError: the port is taken, or the address not this machine's.
    """
    listening = socket.create_server((address, port), family=family)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux (RFC 5482)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(send_timeout_s * 1000))
    return listening


def _serve(config: ConsoleConfig, listening: socket.socket) -> None:
    import uvicorn  # noqa: PLC0415  not installed where the console is not wanted

    from detector.console.app import create_app  # noqa: PLC0415

    # Once it has stopped, uvicorn raises the signal anew for whoever handled it before: the end is then a clean one.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(config),
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )
    host = f"[{config.host}]" if ":" in config.host else config.host
    _LOG.info(
        "console on http://%s:%d/ (%s)",
        host,
        listening.getsockname()[1],
        "token required" if config.token else "this machine only",
    )
    server.run(sockets=[listening])
    _LOG.info("stopped")
