"""What can go wrong with the development broker.

Each message says what was seen, what was expected and what to do; a command prints it and exits with 1.
"""


class BrokerError(Exception):
    """Any failure to provide a Kafka broker; the base of all others here."""


class JarsUnavailableError(BrokerError):
    """The broker's jars are neither in the cache nor could they be fetched and verified."""


class PortInUseError(BrokerError):
    """Another program listens on the port the broker was to answer on."""


class DataDirError(BrokerError):
    """The broker's data folder cannot be written."""


class BrokerDiedError(BrokerError):
    """Java ended by itself, as the broker or when it formatted the data; carries its last lines."""


class BrokerUnresponsiveError(BrokerError):
    """The broker runs (or is said to run elsewhere) and yet answers no metadata request in time."""


class ContainerUnavailableError(BrokerError):
    """No container can be had: no engine, no image, or testcontainers is not installed."""


class NoBrokerError(BrokerError):
    """None of the three ways to a broker is open; names each of them and why it is closed."""
