"""Ports for brokers."""

import socket

from broker.errors import PortInUseError
from broker.probe import PORTS, free_ports


def test_free_ports_are_different_and_none_of_those_to_be_spared() -> None:
    """A broker that is down keeps its port though nothing listens there; a listener's port is free for nobody."""
    left = {PORTS.start + 7, PORTS.start + 8, PORTS.start + 9}
    spared = set(PORTS) - left
    found = set()
    for _ in range(2_000):  # of 101 drawn, one of the three is there in one draw of forty
        try:
            found.add(free_ports(1, besides=spared)[0])
        except PortInUseError:
            continue
    assert found <= left
    assert found
    many = free_ports(50)
    assert len(set(many)) == len(many) == 50
    with socket.create_server(("127.0.0.1", many[0])):
        assert many[0] not in free_ports(100)
