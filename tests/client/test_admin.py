"""Clients that could not be opened leave no thread behind: a worker tries for as long as its broker is away."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from kafka.errors import KafkaError

from detector.client.admin import Admin
from detector.client.consumer import Consumer

NOBODY = "127.0.0.1:1"


@pytest.mark.parametrize("open_client", [Admin, Consumer])
def test_a_client_that_finds_no_broker_leaves_no_thread(open_client: Callable[..., Any]) -> None:
    """Each attempt of kafka-python's own leaves one, and some descriptors."""
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(KafkaError):
            open_client(bootstrap_servers=NOBODY, bootstrap_timeout_ms=200)
    assert threading.active_count() == before
