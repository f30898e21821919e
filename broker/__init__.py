"""The development broker: a real Apache Kafka, wherever one can be had."""

from broker.choice import Broker, obtain
from broker.embedded import EmbeddedBroker
from broker.errors import BrokerError

__all__ = ["Broker", "BrokerError", "EmbeddedBroker", "obtain"]
