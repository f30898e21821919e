"""What ten rules cost: the same model and log with them and without, in turns in one process, by processor time.

    PYTHONPATH=. python benchmarks/rules.py [EVENTS] [ROUNDS] [service]

The model of histories on lives of customers, all of decode, stage, score and decide. Ten rules that name an action, as
most do; ten that don't, all of which ask for signals; ten that can't be told by action and signals, and are asked at every
event. No rule acts, so that the same is decided. `service` measures the whole service on a broker instead, by the clock,
with drift and verdicts besides.
"""

import itertools
import statistics
import sys
import time
from dataclasses import replace

import msgspec
from kafka import TopicPartition

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


def run(events: int, rounds: int) -> None:
    """Measure, and print the ratios of the rounds: median, lowest and highest."""
    model, config = load_model(packaged_model_path("history")), DetectorConfig(partitions=1)
    source = TopicPartition("benchmark", 0)
    lived = interleave(sessions(days=400, customers=400, seed=1, start_ms=_START_MS), start_ms=_START_MS)
    log = [
        LoggedLine(source.topic, 0, at, one.occurred_at_ms, one.account_id.encode(), encode_event(one))
        for at, one in enumerate(itertools.islice(lived, events))
    ]
    batches = [{source: log[at : at + _BATCH]} for at in range(0, events, _BATCH)]

    def measure(conditions: tuple[str, ...] | None) -> tuple[float, int]:
        processor, held = processor_of(model, config, rules=rules_of(conditions, model)), 0
        began_s = time.process_time()
        for processed in replay(batches, processor):
            held += processed.outcome.matches.total()
        return events / (time.process_time() - began_s), held

    contenders = {
        "no rules again": None,
        "an empty file": (),
        "ten by action": BY_ACTION,
        "ten by signals": BY_SIGNALS,
        "ten asked at every event": ALWAYS,
    }
    ratios: dict[str, list[float]] = {name: [] for name in contenders}
    helds = dict.fromkeys(contenders, 0)
    for _ in range(rounds):
        without, _ = measure(None)
        for name, conditions in contenders.items():
            with_, helds[name] = measure(conditions)
            ratios[name].append(with_ / without)
    for name, found in ratios.items():
        print(
            f"{name}: {statistics.median(found):.3f} of the events/s without ({min(found):.3f} to {max(found):.3f}, "
            f"{rounds} rounds; held {helds[name]:,} times at {events:,} events; last without {without:,.0f} events/s)"
        )


def run_service(events: int, rounds: int) -> None:
    """Measure the whole service in turns on one broker: with ten rules by action, and with verdicts and drift besides.

    Without is: no rules, no verdict in the log, a model that says nothing of drift.
    """
    model = load_model(packaged_model_path("history"))
    rules = rules_of(BY_ACTION, model)
    unwatched = replace(model, metadata=msgspec.structs.replace(model.metadata, drift=None))
    contenders = {
        "without": (unwatched, None, LIVES),
        "without again": (unwatched, None, LIVES),
        "drift": (model, None, LIVES),
        "drift and verdicts": (model, None, JUDGED_LIVES),
        "drift, verdicts and ten rules by action": (model, rules, JUDGED_LIVES),
    }
    runs: dict[str, list[float]] = {name: [] for name in contenders}
    with EmbeddedBroker() as broker:
        servers = broker.bootstrap_servers
        count = publish_lives(servers, events)
        publish_lives(servers, events, JUDGED_LIVES, VERDICT_EVERY)
        for number in range(rounds + 1):
            for name, (served, asked, topic) in contenders.items():
                rate = detector(servers, served, _BATCH, count, input_topic=topic, rules=asked)
                if number:  # the first warms up
                    runs[name].append(rate)
    for name, rates in runs.items():
        ratios = [one / without for one, without in zip(rates, runs["without"], strict=True)]
        print(
            f"whole service, {name}: {statistics.median(rates):,.0f} events/s, {statistics.median(ratios):.3f} of those "
            f"without ({min(ratios):.3f} to {max(ratios):.3f}, {rounds} rounds of {count:,} events)"
        )


if __name__ == "__main__":
    given = sys.argv[1:]
    measured = run_service if "service" in given else run
    numbers = [one for one in given if one != "service"]
    measured(*(int(one) for one in (numbers + ["60000", "7"][len(numbers) :])))
