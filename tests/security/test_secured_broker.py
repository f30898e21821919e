"""TLS and SASL on a real broker: what connects, from nothing but the variables."""

import pytest
from kafka import KafkaAdminClient

from detector.connection import client_options
from tests.security.conftest import SecuredBroker


def _connects(environment: dict[str, str]) -> None:
    admin = KafkaAdminClient(
        **client_options(environment["KAFKA_BOOTSTRAP_SERVERS"], environment), bootstrap_timeout_ms=15_000
    )
    try:
        assert admin.describe_cluster()["brokers"]
    finally:
        admin.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "OAUTHBEARER"])
def test_sasl_over_tls_connects(secured: SecuredBroker, mechanism: str) -> None:
    """Each mechanism authenticates over TLS, from nothing but the variables."""
    _connects(secured.sasl_environment(mechanism))
