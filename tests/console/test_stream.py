"""The stream of a running console on a real broker: committed alerts, as they commit, and the state of the link."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import msgspec
import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from broker import Broker, EmbeddedBroker
from detector.contract.alerts import encode_alert
from detector.contract.verdicts import encode_verdict
from tests.conftest import CreateTopic, UniqueName
from tests.console.alerts import NOW_MS, alert, publish, transaction
from tests.console.conftest import TOKEN, Commit
from tests.console.serving import Console, console
from tests.console.stream import stream
from tests.console.test_judged import verdict


def test_an_alert_is_shown_once_it_is_committed(
    served: Console, commit: Commit, kafka: Broker, topic: str, unique_name: UniqueName
) -> None:
    """One in an open transaction is not shown, nor one that was aborted; a committed one is, with all its fields."""
    servers, opened, last = kafka.bootstrap_servers, alert("open"), alert("<b>last</b>")
    with stream(served.url) as viewer:
        viewer.wait_for_link("live")
        with transaction(servers, topic, [alert("aborted")], unique_name("aborted"), 0) as producer:
            producer.abort_transaction()
        with transaction(servers, topic, [opened], unique_name("open"), 0) as producer:
            commit(alert("first"), partition=1)
            commit(alert("second"), partition=1)
            viewer.wait_for_sessions("second")
            assert viewer.sessions == ["first", "second"]
            producer.commit_transaction()
        viewer.wait_for_sessions("open")
        commit(last)
        viewer.wait_for_sessions("<b>last</b>")
    assert viewer.sessions == ["first", "second", "open", "<b>last</b>"]
    assert viewer.alerts[-1] == msgspec.json.decode(encode_alert(last))


def test_a_page_that_lost_its_connection_goes_on_where_it_was(served: Console, commit: Commit) -> None:
    """With the position of its last message it gets what came since, without what it had."""
    commit(alert("before"))
    with stream(served.url) as viewer:
        viewer.wait_for_sessions("before")
    commit(alert("meanwhile"))
    with stream(served.url, Last_Event_ID=viewer.position) as again:
        again.wait_for_sessions("meanwhile")
    assert again.sessions == ["meanwhile"]


def test_a_console_begins_with_the_newest_alerts(
    kafka: Broker, create_topic: CreateTopic, unique_name: UniqueName, tmp_path: Path
) -> None:
    """Started late, it shows the newest alerts of the topic, as many as it keeps."""
    topic = create_topic("console-late", partitions=1)
    for part in range(3):
        alerts = [alert(f"{n}", detected_at_ms=NOW_MS + n) for n in range(part * 20, part * 20 + 20)]
        publish(kafka.bootstrap_servers, topic, alerts, unique_name("late"))
    arguments = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic", topic, "--keep", "15"]
    with console(arguments, tmp_path / "console.log") as late:
        with stream(late.url) as viewer:
            viewer.wait_for_sessions("59")
            assert set(viewer.sessions).isdisjoint(map(str, range(28)))
        with stream(late.url) as fresh:
            fresh.wait_for_sessions("59")
    assert fresh.sessions == [str(n) for n in range(45, 60)]


def test_verdicts_are_read_since_the_oldest_alert(
    kafka: Broker, create_topic: CreateTopic, unique_name: UniqueName, tmp_path: Path
) -> None:
    """However long their topic is, those that may be on alerts that are kept; what is no verdict is passed over."""
    topic, verdicts = (create_topic(f"console-since-{name}", partitions=1) for name in ("alerts", "verdicts"))
    now_ms = time.time_ns() // 1_000_000
    publish(kafka.bootstrap_servers, topic, [alert("1", detected_at_ms=now_ms)], unique_name("since"))
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    for days_ago, value in (
        (2, encode_verdict(verdict(1, 1))),
        (0, b"{"),
        (0, b'{"x":' * 10_000),
        (0, encode_alert(alert("1"))),
        (0, encode_verdict(verdict(1, 2))),
    ):
        producer.send(verdicts, value, timestamp_ms=now_ms - days_ago * 86_400_000)
    producer.close()
    arguments = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic", topic]
    with (
        console([*arguments, "--verdicts-topic", verdicts], tmp_path / "console.log") as late,
        stream(late.url) as viewer,
    ):
        viewer.wait_for(lambda: bool(viewer.verdicts), "the verdict")
        viewer.wait_for(lambda: viewer.verdicts_link.get("link") == "live", "all of them")
    assert [one["verdict_id"] for one in viewer.verdicts] == ["2"]


def test_a_topic_that_comes_later_is_told_and_then_read(
    kafka: Broker, admin: KafkaAdminClient, unique_name: UniqueName, tmp_path: Path
) -> None:
    """Without its topic the console waits and says so. Exposed, it serves nobody who has not the token."""
    topic, everywhere = unique_name("later"), "0.0.0.0"  # noqa: S104  what needs a token
    arguments = ["--bootstrap-servers", kafka.bootstrap_servers, "--topic", topic, "--host", everywhere]
    log = tmp_path / "console.log"
    with console(arguments, log, DETECTOR_CONSOLE_TOKEN=TOKEN) as exposed:
        assert httpx2.get(f"{exposed.url}/stream").status_code == 401
        assert httpx2.post(f"{exposed.url}/session").status_code == 401
        assert "server" not in httpx2.get(f"{exposed.url}/healthz").headers
        with stream(exposed.url, Authorization=f"Bearer {TOKEN}") as viewer:
            viewer.wait_for_link("no_topic")
            admin.create_topics([NewTopic(topic, 1, 1)])
            publish(kafka.bootstrap_servers, topic, [alert("late")], unique_name("later"))
            viewer.wait_for_sessions("late")
    assert TOKEN not in log.read_text()


@pytest.fixture
def own_broker() -> Iterator[EmbeddedBroker]:
    """A broker that the test may stop."""
    with EmbeddedBroker() as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        admin.create_topics([NewTopic("session-alerts", 1, 1)])
        admin.close()
        yield broker


def test_the_console_outlives_its_broker(own_broker: EmbeddedBroker, tmp_path: Path) -> None:
    """While the broker is away the stream says so and since when; afterwards nothing is missing or twice."""
    server = own_broker.bootstrap_servers
    publish(server, "session-alerts", [alert("before")], "before")
    with (
        console(["--bootstrap-servers", server], tmp_path / "console.log") as page,
        stream(page.url) as viewer,
    ):
        viewer.wait_for_sessions("before")
        viewer.wait_for_link("live")
        stopped_ms = time.time_ns() // 1_000_000
        own_broker.stop()
        viewer.wait_for_link("unreachable")
        assert viewer.link["since_ms"] >= stopped_ms
        own_broker.start()
        publish(server, "session-alerts", [alert("after")], "after")
        viewer.wait_for_sessions("after")
        viewer.wait_for_link("live")
        assert viewer.sessions == ["before", "after"]
