"""What the broker is told: its properties, its logging, its Java options."""

from collections.abc import Mapping
from pathlib import Path

LOOPBACK = "127.0.0.1"

SINGLE_NODE: Mapping[str, str] = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL",
    # One node cannot replicate.
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Each of the 50 partitions by default costs a folder and its index files when the first group or transaction
    # comes; a few keep more than one coordinator in play without that wait.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    # A typing error in a topic's name is an error, not a new topic.
    "auto.create.topics.enable": "false",
    # The first member of a group need not wait for others, and a crashed one may be given up quickly.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # A loaded machine starves the broker for seconds; then the controller would take its partitions away. After a
    # crash, though, the controller refuses the broker's new registration for as long.
    "broker.session.timeout.ms": "18000",
    "broker.heartbeat.interval.ms": "500",
    # The cleaner takes 128 MiB of the heap at once by default.
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
}
"""Properties of a one-node development cluster, wherever it runs.

The limits on size stay Kafka's own: a request may have 100 MiB (`socket.request.max.bytes`) and a record 1 MiB
unless its topic allows more (`max.message.bytes`), so a topic may take records of tens of megabytes.
"""


def embedded_properties(
    port: int, controller_port: int, log_dir: Path, overrides: Mapping[str, str]
) -> dict[str, str]:
    """Server properties of the embedded broker, on the loopback interface only; `overrides` win."""
    return {
        **SINGLE_NODE,
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        # Static voters, as their address may change from one start to the next on the same data.
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "log.dirs": str(log_dir),
        **overrides,
    }


def properties_text(properties: Mapping[str, str]) -> str:
    """In Java's properties format (java.util.Properties.load: a backslash escapes)."""
    return "".join(f"{key}={value.replace(chr(92), chr(92) * 2)}\n" for key, value in properties.items())


def log4j2_text(log_file: Path) -> str:
    """Log4j 2 configuration: everything from INFO up to one file, which rolls over at 10 MB, once."""
    return properties_text(
        {
            "rootLogger": "INFO, file",
            "appender.file.type": "RollingFile",
            "appender.file.name": "file",
            "appender.file.fileName": str(log_file),
            "appender.file.filePattern": f"{log_file}.%i",
            "appender.file.layout.type": "PatternLayout",
            "appender.file.layout.pattern": "%d %p %m (%c)%n",
            "appender.file.policy.type": "SizeBasedTriggeringPolicy",
            "appender.file.policy.size": "10MB",
            "appender.file.strategy.type": "DefaultRolloverStrategy",
            "appender.file.strategy.max": "1",
        }
    )
