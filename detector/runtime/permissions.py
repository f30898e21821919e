"""Least privilege: what the ACLs of a Kafka cluster must allow a worker, or another command, and nothing beyond."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from detector.contract.topics import dead_letter_topic, explanations_topic, redriven_topic
from detector.runtime.config import DetectorConfig
from detector.runtime.relaying import relay_group
from detector.runtime.topics import inspected_topics, specifications


class Resource(StrEnum):
    """What an ACL is about, in the words of `kafka-acls`."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional-id"


class Permission(NamedTuple):
    """One thing that has to be allowed. Reading and writing imply describing (KIP-11).

    Attributes:
        name: of the resource, or how its name begins if `prefixed` (KIP-290).
        operation: as `kafka-acls` names it.
        reason: what it is needed for.
    """

    resource: Resource
    name: str
    operation: str
    reason: str
    prefixed: bool = False

    def command(self, principal: str) -> str:
        """Return the call of Kafka's own tool that allows it."""
        pattern = " --resource-pattern-type prefixed" if self.prefixed else ""
        return (
            f"kafka-acls --add --allow-principal {principal} --operation {self.operation} "
            f"--{self.resource} {self.name}{pattern}"
        )


class Role(StrEnum):
    """Who needs to be allowed something; each may be a principal of its own."""

    DETECTOR = "detector"
    SUBSCRIBER = "subscriber"
    CONSOLE = "console"
    PRODUCER = "producer"
    ACCOUNTS = "accounts"
    REDRIVE = "redrive"
    REPLAY = "replay"
    CHECK_TOPIC = "check-topic"
    EXPLAIN = "explain"
    VERDICT = "verdict"
    RELAY_VERDICTS = "relay-verdicts"


def permissions(config: DetectorConfig, role: Role = Role.DETECTOR) -> list[Permission]:
    """Return what a role needs with these settings; with `create_topics` also what creates its topics."""
    return _NEEDED[role](config)


def _detector(config: DetectorConfig) -> list[Permission]:
    needed = [
        _topic(config.input_topic, "Read", "the events"),
        _topic(config.alerts_topic, "Write", "the alerts"),
        _topic(config.dead_letter_topic, "Write", "what could not be scored"),
        _topic(config.models_topic, "Write", "which model decides from where on"),
        _topic(config.state_topic, "Read", "restoring live sessions"),
        _topic(config.state_topic, "Write", "keeping live sessions"),
        _topic(config.state_topic, "Delete", "cutting it behind a snapshot"),
        *(
            _topic(topic, "DescribeConfigs", "its settings, at the start")
            for topic in inspected_topics(config)
        ),
        Permission(Resource.GROUP, config.group, "Read", "sharing the partitions, committing offsets"),
        _transactions(f"{config.group}/", "one transaction a batch", prefixed=True),
    ]
    if config.rebuild_from_input:
        needed.append(_topic(config.alerts_topic, "Read", "rebuilding: who was blocked"))
        needed.append(_topic(config.dead_letter_topic, "Read", "rebuilding: what left no trace"))
        needed.append(_topic(config.models_topic, "Read", "rebuilding: what decided, under which limits"))
    if config.uses_shadow_topic:
        needed.append(_topic(config.shadow_topic, "Write", "what is tried in shadow"))
    if config.create_topics:
        created = [one.name for one in specifications(config)]
        needed += [_topic(topic, "Create", "creating it at the start") for topic in created]
        needed.append(_topic(config.state_topic, "Alter", "growing it as the input grows"))
    return needed


def _subscriber(config: DetectorConfig) -> list[Permission]:
    return [_topic(config.alerts_topic, "Read", "the alerts, by `detector alerts`")]


def _console(config: DetectorConfig) -> list[Permission]:
    return [
        _topic(config.alerts_topic, "Read", "the alerts"),
        _topic(config.verdicts_topic, "Read", "the verdicts on them"),
    ]


def _producer(config: DetectorConfig) -> list[Permission]:
    return [_topic(config.input_topic, "Write", "publishing events")]


def _accounts(config: DetectorConfig) -> list[Permission]:
    kept = config.accounts_topic
    return [
        _topic(config.input_topic, "Write", "telling the detector"),
        _topic(kept, "Read", "the accounts listed so far"),
        _topic(kept, "Write", "keeping the accounts listed"),
        _transactions(kept, "both at once"),
        *([_topic(kept, "Create", "the first listing")] if config.create_topics else []),
    ]


def _redrive(config: DetectorConfig) -> list[Permission]:
    ledger = redriven_topic(config.input_topic)
    return [
        _topic(config.dead_letter_topic, "Read", "the dead letters"),
        _topic(config.input_topic, "Read", "the originals of dead letters that were cut"),
        _topic(config.input_topic, "DescribeConfigs", "its max.message.bytes"),
        _topic(config.input_topic, "Write", "publishing them again"),
        _topic(ledger, "Read", "how far earlier runs came"),
        _topic(ledger, "Write", "keeping how far it came"),
        _transactions(f"{config.dead_letter_topic}.redrive", "both at once"),
        *([_topic(ledger, "Create", "the first run")] if config.create_topics else []),
    ]


def _replay(config: DetectorConfig) -> list[Permission]:
    return [
        _topic(
            config.input_topic, "Read", "`detector replay`, `detector backtest --topic`, `trainer --topic`"
        ),
        _topic(config.models_topic, "Read", "`detector replay --models`"),
    ]


def _check_topic(config: DetectorConfig) -> list[Permission]:
    return [
        _topic(config.input_topic, "Read", "a sample of the events"),
        _topic(config.input_topic, "DescribeConfigs", "its settings"),
    ]


def _explain(config: DetectorConfig) -> list[Permission]:
    explanations = explanations_topic(config.alerts_topic)
    return [
        _topic(config.alerts_topic, "Read", "the alerts, by `detector explain --session` and `--follow`"),
        _topic(explanations, "Write", "what `--follow` publishes"),
        Permission(Resource.GROUP, explanations, "Read", "how far `--follow` came"),
        *([_topic(explanations, "Create", "the first run")] if config.create_topics else []),
    ]


def _verdict(config: DetectorConfig) -> list[Permission]:
    topic = config.verdicts_topic
    return [
        _topic(config.alerts_topic, "Read", "the alert, by `detector verdict --alert`"),
        _topic(topic, "Write", "the verdicts"),
        *([_topic(topic, "Create", "the first verdict")] if config.create_topics else []),
    ]


def _relay_verdicts(config: DetectorConfig) -> list[Permission]:
    verdicts, letters = config.verdicts_topic, dead_letter_topic(config.verdicts_topic)
    created = [_topic(one, "Create", "creating it at the start") for one in (verdicts, letters)]
    return [
        _topic(verdicts, "Read", "the verdicts"),
        _topic(config.input_topic, "Write", "telling the detector"),
        _topic(letters, "Write", "what is no verdict"),
        Permission(Resource.GROUP, relay_group(config), "Read", "sharing the partitions, committing offsets"),
        _transactions(f"{relay_group(config)}/", "all at once", prefixed=True),
        *(created if config.create_topics else []),
    ]


def _topic(name: str, operation: str, reason: str) -> Permission:
    return Permission(Resource.TOPIC, name, operation, reason)


def _transactions(name: str, reason: str, *, prefixed: bool = False) -> Permission:
    return Permission(Resource.TRANSACTIONAL_ID, name, "Write", reason, prefixed)


_NEEDED: Final[Mapping[Role, Callable[[DetectorConfig], list[Permission]]]] = {
    Role.DETECTOR: _detector,
    Role.SUBSCRIBER: _subscriber,
    Role.CONSOLE: _console,
    Role.PRODUCER: _producer,
    Role.ACCOUNTS: _accounts,
    Role.REDRIVE: _redrive,
    Role.REPLAY: _replay,
    Role.CHECK_TOPIC: _check_topic,
    Role.EXPLAIN: _explain,
    Role.VERDICT: _verdict,
    Role.RELAY_VERDICTS: _relay_verdicts,
}
