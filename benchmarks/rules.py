"""What ten rules cost: the same model and log with them and without, by processor time; and the whole service with them.

Ten rules that name an action, as most do; ten that don't, all of which ask for signals; ten that can't be told by action
and signals, and are asked at every event. No rule acts, so that the same is decided.
"""

import itertools
import time
from dataclasses import replace
from functools import partial

import msgspec
from kafka import TopicPartition

from benchmarks.results import Ratio, Result, Row, quotients, repeated
from benchmarks.service import LIVES, detector, publish_lives
from broker import EmbeddedBroker
from detector.contract.events import encode_event
from detector.model.artifact import Model, load_model, packaged_model_path
from detector.model.rules import Rules
from detector.runtime.config import DetectorConfig
from detector.runtime.processing import processor_of
from detector.runtime.replaying import LoggedLine, replay
from producer.behaviour.interleave import interleave
from producer.behaviour.lives.stream import sessions

_START_MS = 1_790_000_000_000 // 86_400_000 * 86_400_000
_BATCH = 2_000
WITHOUT = "without"
JUDGED_LIVES = f"{LIVES}-judged"
VERDICT_EVERY = 1_000
"""A verdict after so many events, about as many as there are alerts; each is in every partition."""
BY_ACTION = (
    'action == "TRANSFER_LARGE" && device.novelty == "never"',
    'action == "TRANSFER_LARGE" && score > 0.05',
    'action == "ADD_RECIPIENT" && since_a_password_change.since < duration("1h")',
    'action == "CHANGE_PASSWORD" && network.novelty == "never" && device.novelty == "never"',
    'action == "LOGIN" && failed_logins_in_a_day.count >= 3',
    'action.startsWith("TRANSFER") && recipient.novelty == "never" && amount > 20000.0',
    'action.startsWith("TRANSFER") && transfers_in_an_hour.count >= 17',
    'action == "TRANSFER_SMALL" && gap < duration("500ms")',
    'action == "ADD_RECIPIENT" && action_number < 4',
    'action == "TRANSFER_LARGE" && amount_against_the_usual.deviation >= 6.5',
)
BY_SIGNALS = (
    'device.novelty == "never" && score > 0.05',
    'network.novelty == "never" && country.novelty == "never" && device.novelty == "never"',
    'recipient.novelty == "never" && amount > 20000.0',
    'failed_logins_in_a_day.count >= 3 && gap < duration("2s")',
    'since_a_password_change.since < duration("10m") && score > 0.02',
    "sessions_in_an_hour.count >= 9",
    "amount_against_the_usual.deviation >= 6.5 && score > 0.01",
    'hour_of_the_day.habit < 0.02 && device.novelty == "never" && action_number > 3',
    'channel.level == "api" && gap < duration("300ms")',
    "transfers_in_an_hour.count >= 9 && amount > 900.0",
)
ALWAYS = tuple(f"score > 0.9{number} && gap < duration('{number + 1}s')" for number in range(10))


def rules_of(conditions: tuple[str, ...] | None, model: Model) -> Rules | None:
    """Return rules in shadow with these conditions."""
    tables = [f'[[rule]]\nname = "{at}"\nwhen = """{one}"""\nthen = "REVIEW"\n' for at, one in enumerate(conditions or ())]  # fmt: skip
    return None if conditions is None else Rules("".join(tables), model.encoding)


def run(repetitions: int, events: int) -> list[Result]:
    """Measure both."""
    return [_by_processor(repetitions, events), _by_service(repetitions, events)]


def _by_processor(repetitions: int, events: int) -> Result:
    """Measure all of decode, stage, score and decide, with rules and without."""
    model, config = load_model(packaged_model_path("history")), DetectorConfig(partitions=1)
    source = TopicPartition("benchmark", 0)
    lived = interleave(sessions(days=400, customers=400, seed=1, start_ms=_START_MS), start_ms=_START_MS)
    log = [
        LoggedLine(source.topic, 0, at, one.occurred_at_ms, one.account_id.encode(), encode_event(one))
        for at, one in enumerate(itertools.islice(lived, events))
    ]
    batches = [{source: log[at : at + _BATCH]} for at in range(0, events, _BATCH)]

    def measure(conditions: tuple[str, ...] | None) -> float:
        processor = processor_of(model, config, rules=rules_of(conditions, model))
        began_s = time.process_time()
        for _ in replay(batches, processor):
            pass
        return events / (time.process_time() - began_s)

    asked = {
        WITHOUT: None,
        "no rules again": None,
        "an empty file": (),
        "ten by action": BY_ACTION,
        "ten by signals": BY_SIGNALS,
        "ten asked at every event": ALWAYS,
    }
    contenders = {name: partial(measure, conditions) for name, conditions in asked.items()}
    how = (
        f"{events:,} events of lives, history model, batches of {_BATCH:,}, no Kafka; by processor time; {repetitions} "
        "repetitions in turns."
    )
    return _result("rules", "Rules", how, repeated(contenders, repetitions))


def _by_service(repetitions: int, events: int) -> Result:
    """Measure the whole service in turns on one broker: with ten rules by action, and with verdicts and drift besides.

    Without is: no rules, no verdict in the log, a model that says nothing of drift.
    """
    model = load_model(packaged_model_path("history"))
    rules = rules_of(BY_ACTION, model)
    unwatched = replace(model, metadata=msgspec.structs.replace(model.metadata, drift=None))
    asked = {
        WITHOUT: (unwatched, None, LIVES),
        "without again": (unwatched, None, LIVES),
        "drift": (model, None, LIVES),
        "drift and verdicts": (model, None, JUDGED_LIVES),
        "drift, verdicts and ten rules by action": (model, rules, JUDGED_LIVES),
    }
    with EmbeddedBroker() as broker:
        servers = broker.bootstrap_servers
        count = publish_lives(servers, events)
        publish_lives(servers, events, JUDGED_LIVES, VERDICT_EVERY)

        def measure(served: Model, by: Rules | None, topic: str) -> float:
            return detector(servers, served, _BATCH, count, input_topic=topic, rules=by).events_per_s

        contenders = {name: partial(measure, *given) for name, given in asked.items()}
        repeated(contenders, 1)  # warms up
        runs = repeated(contenders, repetitions)
    how = (
        f"{count:,} events of lives through one worker on a broker, history model, batches of {_BATCH:,}; a verdict after each "
        f"{VERDICT_EVERY:,} events, in every partition; {repetitions} repetitions in turns."
    )
    return _result("watching", "Drift, verdicts and rules, whole service", how, runs, 0.9)


def _result(
    name: str, title: str, how: str, runs: dict[str, list[float]], target: float | None = None
) -> Result:
    ratios = [
        Ratio(f"{one} by without", quotients(rates, runs[WITHOUT]), None if one.endswith("again") else target)
        for one, rates in runs.items()
        if one != WITHOUT
    ]
    return Result(name, title, how, [Row(one, "events/s", rates) for one, rates in runs.items()], ratios)
