"""A long-running command watched: its health and metrics served, and its process ended if its loop stands still."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext

import click
from prometheus_client import CollectorRegistry

from detector.runtime.config import DetectorConfig
from detector.runtime.health import HealthServer, Heartbeat, Watchdog

_LOG = logging.getLogger("detector")


@contextmanager
def watched(config: DetectorConfig, registry: CollectorRegistry, heartbeat: Heartbeat) -> Iterator[None]:
    """Watch the loop for the block.

    Args:
        config: says where health and metrics are served, and for how long the loop may stand still.
        registry: of the metrics.
        heartbeat: of the loop.

    Raises:
        click.ClickException: they can't be served there.
    """
    stall_timeout_s = config.stall_timeout_ms / 1000
    with (
        _served(config, registry, heartbeat, stall_timeout_s),
        Watchdog(heartbeat, stall_timeout_s),
    ):
        yield


def _served(
    config: DetectorConfig, registry: CollectorRegistry, heartbeat: Heartbeat, stall_timeout_s: float
) -> closing[HealthServer] | nullcontext[None]:
    if config.metrics_port < 0:
        return nullcontext()
    host, port = config.metrics_host, config.metrics_port
    try:
        server = HealthServer(host, port, registry, heartbeat, stall_timeout_s)
    except OSError as error:
        raise click.ClickException(
            f"metrics can't be served on {host}:{port}: {error.strerror}. Expected a free port of this machine: "
            "choose another with --metrics-port, 0 for any, -1 for none"
        ) from error
    _LOG.info("metrics on http://%s:%d/metrics", host, server.port)
    return closing(server)
