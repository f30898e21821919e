"""Least privilege: what the ACLs of a Kafka cluster must allow a worker, and nothing beyond."""

from enum import StrEnum
from typing import NamedTuple

from detector.runtime.config import DetectorConfig
from detector.runtime.topics import specifications


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


def permissions(config: DetectorConfig) -> list[Permission]:
    """Return what a worker with these settings needs; with `create_topics` also what creates its topics."""
    transactions = f"{config.group}-"
    needed = [
        Permission(Resource.TOPIC, config.input_topic, "Read", "the events"),
        Permission(Resource.TOPIC, config.alerts_topic, "Write", "the alerts"),
        Permission(Resource.TOPIC, config.dead_letter_topic, "Write", "what could not be scored"),
        Permission(Resource.TOPIC, config.models_topic, "Write", "which model decides from where on"),
        Permission(Resource.TOPIC, config.state_topic, "Read", "restoring live sessions"),
        Permission(Resource.TOPIC, config.state_topic, "Write", "keeping live sessions"),
        Permission(Resource.TOPIC, config.state_topic, "Delete", "cutting it behind a snapshot"),
        Permission(Resource.GROUP, config.group, "Read", "sharing the partitions, committing offsets"),
        Permission(
            Resource.TRANSACTIONAL_ID, transactions, "Write", "one transaction a batch", prefixed=True
        ),
    ]
    if config.shadow_model:
        needed.append(Permission(Resource.TOPIC, config.shadow_topic, "Write", "what the challenger blocks"))
    if config.create_topics:
        created = [one.name for one in specifications(config)]
        needed += [
            Permission(Resource.TOPIC, topic, "Create", "creating it at the start") for topic in created
        ]
        needed.append(
            Permission(Resource.TOPIC, config.state_topic, "Alter", "growing it as the input grows")
        )
    return needed
