"""Checking an input topic: what its settings, and a sample of its records, say of those who write to it.

Nothing is published, and no group is joined.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Final

import msgspec
from kafka import KafkaAdminClient, TopicPartition

from detector.client.reading import Span, committed_span, log_reader, read
from detector.connection import client_options
from detector.contract.dead_letters import Reason
from detector.runtime.config import DetectorConfig
from detector.runtime.keys import expected_key
from detector.runtime.permissions import Role
from detector.runtime.processing import Processor
from detector.runtime.recovery import TopicsUnfitError
from detector.runtime.sampling import Sample, keyed_otherwise
from detector.runtime.topics import Expectation, expectations, settings_of

_TOLD_BESIDE: Final = ("compression.type", "retention.bytes")
_ALIKE: Final = (
    "writers that all choose partitions alike, as murmur2_random of librdkafka and Java do, by one number of partitions; see "
    "docs/how-to/keys.md"
)
_MENDED: Final = {
    Reason.NULL_VALUE: "an event in each record: what has no value has nothing to score",
    Reason.TOO_LARGE: "smaller events, or a larger --max-event-bytes",
    Reason.BATCH_TOO_LARGE: "smaller batches of the producers, once expanded",
    Reason.DESERIALIZATION: "batches that Kafka's own clients can read",
    Reason.MALFORMED: "events as docs/contract.md has them",
    Reason.UNKNOWN_ACTION: "actions that the model knows: name them so, train one with them, or --unknown-actions token",
    Reason.TIME_UNIT: "times in milliseconds since 1970, as docs/contract.md has them",
    Reason.TIME_IN_FUTURE: "clocks that are right",
    Reason.UNKNOWN_SCHEMA: "schemas of the registry that SCHEMA_REGISTRY_URL names; see docs/how-to/formats.md",
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps the detector from deciding as it could: what was seen, and what was expected."""

    about: str
    seen: str
    expected: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a topic.

    Attributes:
        topic: its name.
        partitions: how many it has.
        records: of the sample.
        events: among them; the others are control records and dead letters.
        keys: events by what their key is: account, session, other, none.
        accounts: how many were seen.
        split_accounts: how many of them lie in several partitions.
        sessions: how many were seen.
        split_sessions: how many of them lie in several partitions.
        partitioners: share of the keys that each partitioner puts where they lie; empty where that can't be told.
        dead_letters: records that are none but dead letters, by their reason.
        settings: of the topic.
        findings: what does not fit.
    """

    topic: str
    partitions: int
    records: int
    events: int
    keys: dict[str, int]
    accounts: int
    split_accounts: int
    sessions: int
    split_sessions: int
    partitioners: dict[str, float]
    dead_letters: dict[Reason, int]
    settings: dict[str, str]
    findings: list[Finding]


def check_topic(config: DetectorConfig, processor: Processor, most: int) -> Report:
    """Look at the settings of the input topic, and at its latest records.

    Args:
        config: names broker and topic, and says what the detector needs of it.
        processor: decodes as in service.
        most: records of the sample, an equal share of each partition.

    Raises:
        TopicsUnfitError: there is no such topic.
        AccessRefusedError: this user may not read its settings.
        KafkaError: the broker can't be reached or refuses.
    """
    topic, of_history = config.input_topic, processor.pipeline.encoding.signals.of_history
    wanted = [one for one in expectations(config) if one.topic == topic]
    with closing(log_reader(config.bootstrap_servers, max_poll_records=config.batch_max_events)) as consumer:
        spans = committed_span(consumer, topic)
        if not spans:
            raise TopicsUnfitError(f"no topic {topic!r} at {config.bootstrap_servers}: expected one to check")
        with closing(KafkaAdminClient(**client_options(config.bootstrap_servers))) as admin:
            names = {*(one.setting for one in wanted), *_TOLD_BESIDE}
            settings = settings_of(admin, [topic], names, Role.CHECK_TOPIC)[topic]
        sample = Sample(len(spans))
        for batch in read(consumer, _latest(spans, most)):
            sample.add(batch, processor)
    return Report(
        topic=topic,
        partitions=sample.partitions,
        records=sample.records,
        events=sample.events,
        keys=dict(sample.keys),
        accounts=len(sample.accounts),
        split_accounts=sample.accounts.split,
        sessions=len(sample.sessions),
        split_sessions=sample.sessions.split,
        partitioners=sample.partitioners(),
        dead_letters=dict(sample.letters),
        settings=dict(sorted(settings.items())),
        findings=[*_of_settings(settings, wanted), *of_sample(sample, of_history=of_history)],
    )


def _latest(spans: Mapping[TopicPartition, Span], most: int) -> dict[TopicPartition, Span]:
    share = max(1, most // len(spans))
    return {
        source: (begin if end is None else max(begin, end - share), end)
        for source, (begin, end) in spans.items()
    }


def _of_settings(settings: Mapping[str, str], wanted: Sequence[Expectation]) -> Iterator[Finding]:
    for one in wanted:
        if not one.holds(value := settings[one.setting]):
            expected = f"{one.expected}, {one.otherwise}"
            yield Finding(about=one.setting, seen=f"it is {value}", expected=expected)


def of_sample(sample: Sample, *, of_history: bool) -> Iterator[Finding]:
    """Yield what a sample says of those who write, where the model reads the history of accounts or does not."""
    if wrong := keyed_otherwise(sample.keys, of_history=of_history):
        told = {"none": "without a key", "session": "under the session's id", "other": "under another key"}
        kinds = ", ".join(f"{count:,} {told[name]}" for name, count in sorted(wrong.items()))
        yield Finding(
            about="keys",
            seen=f"{sum(wrong.values()):,} of {sample.events:,} events are keyed otherwise: {kinds}",
            expected=f"{expected_key(of_history=of_history)}. See docs/how-to/keys.md",
        )
    name, places = ("accounts", sample.accounts) if of_history else ("sessions", sample.sessions)
    if places.split:
        yield Finding(
            about=name,
            seen=f"{places.split:,} of {len(places):,} {name} lie in several partitions",
            expected=f"each in one: one key for all its events, and {_ALIKE}",
        )
    if mixed := sample.mixed():
        yield Finding(about="partitioners", seen=mixed, expected=_ALIKE)
    for reason, count in sorted(sample.letters.items()):
        yield Finding(
            about=reason,
            seen=f"{count:,} of {sample.records:,} records ({count / sample.records:.1%}) are dead letters, such as "
            f"{sample.firsts[reason].topic}[{sample.firsts[reason].partition}] at offset {sample.firsts[reason].offset}: "
            f"{sample.firsts[reason].detail}",
            expected=_MENDED.get(reason, "none; see docs/how-to/dead-letters.md"),
        )
