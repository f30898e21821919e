"""Lag: what waits is seen from outside, above all when nothing is committed, and nothing else is."""

from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from broker import EmbeddedBroker
from detector.cli import main
from detector.runtime.lag import Ends, EndsOfBrokers, LagMeter
from detector.runtime.metrics import DetectorMetrics
from tests.chaos.nodes import Nodes
from tests.conftest import UniqueName
from tests.runtime.conftest import SetTopic
from tests.runtime.stack import Stack, Worker, exposed
from tests.runtime.test_end_to_end import records, sessions
from tests.waiting import wait_for

MakeStack = Callable[..., Stack]
A, B = (TopicPartition("in", number) for number in (0, 1))


def total(worker: Worker, name: str) -> float | None:
    """Return the sum of a series over its labels, None if there is none."""
    found = [sample.value for sample in exposed(worker, name)]
    return sum(found) if found else None


def test_what_waits_is_exposed_while_no_commit_succeeds(make_stack: MakeStack, set_topic: SetTopic) -> None:
    """A partition shows itself once restored, and events whose transaction fails count as lag."""
    stack = make_stack(partitions=1, metrics_port=0)
    with stack.worker() as worker:
        wait_for(lambda: total(worker, "detector_lag_events") == 0, "the partition")
        # A compacted topic takes no record without a key, as those of the state are.
        set_topic(stack.config.state_topic, "cleanup.policy", "compact")
        published = stack.publish(records(sessions(20)))
        wait_for(lambda: total(worker, "detector_lag_events") == published, "what waits")
        assert total(worker, "detector_scores_total") == 0
        worker.kill()
    set_topic(stack.config.state_topic, "cleanup.policy", "delete")
    with stack.worker() as mended:
        wait_for(lambda: total(mended, "detector_scores_total") == published, "the end of it")
        wait_for(lambda: total(mended, "detector_lag_events") == 0, "the lag to be gone")


def test_a_marker_is_nothing_that_waits(make_stack: MakeStack) -> None:
    """After an account was listed, in a transaction, each partition ends with its marker, and a quiet night has no lag."""
    stack = make_stack(partitions=2, metrics_port=0)
    config = stack.config
    with stack.worker() as worker:
        told = CliRunner().invoke(
            main,
            [
                "accounts",
                "deny",
                "x",
                "--bootstrap-servers",
                config.bootstrap_servers,
                "--input-topic",
                config.input_topic,
            ],
        )
        assert told.exit_code == 0, told.output
        wait_for(lambda: total(worker, "detector_listed_accounts") == 2, "the listing")
        wait_for(lambda: total(worker, "detector_lag_events") == 0, "no lag behind the markers")
        wait_for(lambda: total(worker, "detector_open_transaction_events") == 0, "nor an open transaction")


def test_what_waits_for_an_open_transaction_is_told_apart(
    make_stack: MakeStack, unique_name: UniqueName
) -> None:
    """Events behind somebody's open transaction can't be read: they are no lag of the worker's, and have a metric."""
    stack = make_stack(partitions=1, metrics_port=0)
    events = list(records(sessions(20)))
    with stack.worker() as worker:
        wait_for(lambda: total(worker, "detector_lag_events") == 0, "the partition")
        with open_transaction(stack, unique_name()) as producer:
            behind = stack.publish(events)
            # The open transaction's own record as well: nobody can tell yet what it will be.
            wait_for(
                lambda: total(worker, "detector_open_transaction_events") == behind + 1, "what is held back"
            )
            assert total(worker, "detector_lag_events") == 0
            assert total(worker, "detector_scores_total") == 0
            producer.abort_transaction()
        wait_for(lambda: total(worker, "detector_scores_total") == behind, "what was held back")
        wait_for(lambda: total(worker, "detector_open_transaction_events") == 0, "nothing to be held back")


@contextmanager
def open_transaction(stack: Stack, name: str) -> Iterator[KafkaProducer]:
    """Hold a transaction open on the input topic."""
    producer = KafkaProducer(bootstrap_servers=stack.config.bootstrap_servers, transactional_id=name)
    try:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(stack.config.input_topic, value=b"{}").get(timeout=30)
        yield producer
    finally:
        producer.close(timeout=5)


def test_a_partition_without_a_leader_takes_only_its_own_lag_along(tmp_path: Path) -> None:
    """Of three brokers one dies, and with it the only replica of a partition: what waits in the others is still told."""
    sources = [TopicPartition("in", number) for number in range(3)]
    with Nodes(tmp_path, 3) as nodes:
        ends = EndsOfBrokers(nodes.bootstrap_servers, "a")
        with closing(KafkaAdminClient(bootstrap_servers=nodes.bootstrap_servers)) as admin:
            assignment = {source.partition: [1 + source.partition] for source in sources}
            admin.create_topics([NewTopic("in", -1, -1, replica_assignments=assignment)])
        with closing(ends):
            wait_for(lambda: ends(sources).keys() == set(sources), "all of them")
            nodes.all[2].broker.kill()
            wait_for(lambda: ends(sources).keys() == set(sources[:2]), "the loss of the leader")
            nodes.all[2].broker.start()
            wait_for(lambda: ends(sources).keys() == set(sources), "all of them again")


class Told:
    """Ends that a test tells."""

    def __init__(self) -> None:
        self.ends: dict[TopicPartition, Ends] = {}
        self.error: Exception | None = None
        self.now_s = 100.0

    def __call__(self, sources: Collection[TopicPartition], /) -> dict[TopicPartition, Ends]:
        """Return what is told."""
        if self.error:
            raise self.error
        return {source: self.ends[source] for source in sources if source in self.ends}

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def meter() -> Iterator[tuple[LagMeter, Told, DetectorMetrics]]:
    """Return a meter that measures when it is asked to; at first partitions A and B are held, at 10 and 20."""
    told, metrics = Told(), DetectorMetrics()
    one = LagMeter(told, metrics.lags, interval_s=3_600, patience_s=0.01, clock_s=lambda: told.now_s)
    told.ends = {A: Ends(10, 10), B: Ends(20, 20)}
    at(one, {A: 10, B: 20})
    one.measure()
    yield one, told, metrics
    one.close()


def at(meter: LagMeter, positions: dict[TopicPartition, int]) -> None:
    """Let the loop pass where it tells its positions."""
    meter.heed(positions.keys(), positions.get)


def shown(metrics: DetectorMetrics, name: str = "detector_lag_events") -> dict[str, float]:
    """Return the lag, or another gauge, by partition."""
    return {
        sample.labels["partition"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


def test_the_lag_grows_while_the_loop_stands_still(meter: tuple[LagMeter, Told, DetectorMetrics]) -> None:
    """A loop that hangs in a batch tells no positions any more; what comes meanwhile waits all the same."""
    one, told, metrics = meter
    assert shown(metrics) == {"0": 0, "1": 0}
    told.ends |= {A: Ends(17, 30)}
    one.measure()
    assert shown(metrics) == {"0": 7, "1": 0}
    assert shown(metrics, "detector_open_transaction_events") == {"0": 13, "1": 0}


def test_a_transaction_that_stays_open_is_told_from_one_after_the_other(
    meter: tuple[LagMeter, Told, DetectorMetrics],
) -> None:
    """A producer may have a transaction open at every look; only one that stays is a trouble, and for how long."""
    one, told, metrics = meter
    told.ends = {A: Ends(10, 12), B: Ends(20, 25)}
    one.measure()
    told.now_s += 60
    told.ends = {A: Ends(10, 40), B: Ends(25, 30)}
    one.measure()
    assert shown(metrics, "detector_open_transaction_seconds") == {"0": 60, "1": 0}
    told.ends = {A: Ends(40, 40), B: Ends(30, 30)}
    one.measure()
    assert shown(metrics, "detector_open_transaction_seconds") == {"0": 0, "1": 0}


def test_a_lag_that_nobody_tells_is_not_shown(meter: tuple[LagMeter, Told, DetectorMetrics]) -> None:
    """A partition without a leader has no lag until it can be measured: a frozen 0 would look like peace."""
    one, told, metrics = meter
    del told.ends[A]
    one.measure()
    assert shown(metrics) == {"1": 0}
    told.error = RuntimeError("whatever")
    one.measure()
    assert shown(metrics) == {}
    told.error = None
    one.measure()
    assert shown(metrics) == {"1": 0}


def test_only_the_lag_of_what_is_held_is_shown(meter: tuple[LagMeter, Told, DetectorMetrics]) -> None:
    """A partition that went to another worker takes its lag along, at once, as does the end of the worker."""
    one, _, metrics = meter
    at(one, {B: 20})
    assert shown(metrics) == {"1": 0}
    one.close()
    assert shown(metrics) == shown(metrics, "detector_open_transaction_events") == {}


def test_a_broker_that_is_away_keeps_nobody_waiting(unique_name: UniqueName) -> None:
    """While the broker is stopped in its tracks, positions are told as ever, and the lag is not known."""
    with EmbeddedBroker() as broker:
        topic = TopicPartition(unique_name("in"), 0)
        with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as admin:
            admin.create_topics([NewTopic(topic.topic, 1, 1)])
        with closing(KafkaProducer(bootstrap_servers=broker.bootstrap_servers)) as producer:
            producer.send(topic.topic, value=b"{}").get(timeout=60)
        metrics = DetectorMetrics()
        meter = LagMeter(
            EndsOfBrokers(broker.bootstrap_servers, "a"), metrics.lags, interval_s=0.2, patience_s=0.01
        )
        try:
            at(meter, {topic: 0})
            wait_for(lambda: shown(metrics) == {"0": 1}, "the lag")
            broker.pause()
            wait_for(lambda: shown(metrics) == {}, "the lag to be forgotten")
            broker.resume()

            def known_again() -> bool:
                at(meter, {topic: 1})  # as the loop does all the time, in no time
                return shown(metrics) == {"0": 0}

            wait_for(known_again, "the lag to be known again")
        finally:
            meter.close()
