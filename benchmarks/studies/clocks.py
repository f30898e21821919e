"""What clocks do to what is decided: the same traffic, its times told as browsers, phones, gateways and attackers tell them.

Records have the broker's time, at which they arrive: when they happened and some milliseconds. Of each case: lawful
sessions blocked, attackers' sessions blocked, events that `detector_corrected_times_total` would count, dead letters. The
model of histories is asked about lives of customers of some weeks, so many sessions at most; others about `realistic`.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

import click
from kafka import TopicPartition
from msgspec.structs import replace

from benchmarks.arguments import model_argument
from detector.contract.alerts import Decision
from detector.contract.events import SessionAction, encode_event
from detector.core.clocks import Clock
from detector.model.artifact import Model
from detector.runtime.config import DetectorConfig
from detector.runtime.processing import processor_of
from detector.runtime.replaying import LoggedLine, replay
from producer.behaviour import realistic
from producer.behaviour.interleave import interleave, schedule
from producer.behaviour.lives import stream as lives
from producer.behaviour.session import SimulatedSession, stream

START_MS = 1_790_000_000_000 // 86_400_000 * 86_400_000
_SOURCE, _BATCH, _DAYS = TopicPartition("benchmark", 0), 2_000, 30
_APPEND_TIME, SWAPPED = 1, 0.05
_CLOCKS = [one.value for one in Clock]


class Arrival(NamedTuple):
    """An event at the broker."""

    broker_ms: int
    event: SessionAction


class Traffic(NamedTuple):
    """Honest traffic.

    Attributes:
        arrivals: in their order.
        attacks: ids of attackers' sessions.
        begins_ms: when each session begins, by its id.
    """

    arrivals: list[Arrival]
    attacks: frozenset[str]
    lawful: int
    begins_ms: dict[str, int]


def traffic(model: Model, count: int) -> Traffic:
    """Simulate."""
    if model.encoding.signals.of_history:
        planned = list(
            islice(lives.sessions(days=_DAYS, customers=count // _DAYS, seed=5, start_ms=START_MS), count)
        )
    else:
        planned = list(schedule(realistic.sessions(count, 5, realistic.RealisticBehaviour()), live_sessions=100, rng=stream(5, "schedule")))  # fmt: skip
    sessions: list[SimulatedSession] = [one for _, one in planned]
    rng, begins_ms = stream(5, "latency"), dict[str, int]()
    arrivals = []
    for event in interleave(planned, start_ms=START_MS):
        begins_ms.setdefault(event.session_id, event.occurred_at_ms)
        arrivals.append(Arrival(event.occurred_at_ms + 5 + int(rng.expovariate(1 / 40)), event))
    attacks = frozenset(one.session_id for one in sessions if one.is_attack)
    return Traffic(
        sorted(arrivals, key=lambda one: one.broker_ms), attacks, len(sessions) - len(attacks), begins_ms
    )


Case = Callable[[Traffic, random.Random], Iterator[Arrival]]


def claiming(told: Callable[[int, int, int], float], *, attackers: bool = False, share: float = 1.0) -> Case:
    """Return a case of other times in events.

    Args:
        told: by when it happens, when its session began, and when it arrives, what an event says.
        attackers: whether only theirs say so.
        share: of all sessions, those that do, else.
    """

    def case(honest: Traffic, rng: random.Random) -> Iterator[Arrival]:
        wrong = honest.attacks if attackers else {one for one in honest.begins_ms if rng.random() < share}
        for broker_ms, event in honest.arrivals:
            if event.session_id in wrong:
                at_ms = told(event.occurred_at_ms, honest.begins_ms[event.session_id], broker_ms)
                event = replace(event, occurred_at_ms=max(0, int(at_ms)))  # noqa: PLW2901
            yield Arrival(broker_ms, event)

    return case


def every_second(honest: Traffic, _rng: random.Random) -> Iterator[Arrival]:
    """Of each session every second event is told by a gateway whose clock is 30 s behind."""
    seen = dict[str, int]()
    for broker_ms, event in honest.arrivals:
        number = seen[event.session_id] = seen.get(event.session_id, 0) + 1
        behind_ms = 30_000 * (number % 2 == 0)
        yield Arrival(broker_ms, replace(event, occurred_at_ms=event.occurred_at_ms - behind_ms))


def swapped(honest: Traffic, rng: random.Random) -> Iterator[Arrival]:
    """5 % of a session's events arrive a quarter of a second after the next one."""
    last, made = dict[str, int](), list(honest.arrivals)
    for at, one in enumerate(honest.arrivals):
        before = last.pop(one.event.session_id, None)
        if before is not None and rng.random() < SWAPPED:
            made[before] = Arrival(one.broker_ms + 250, made[before].event)
        else:
            last[one.event.session_id] = at
    yield from sorted(made, key=lambda arrival: arrival.broker_ms)


def late(
    delay_ms: Callable[[int, int, random.Random], float], share: float = 1.0, *, in_order: bool = True
) -> Case:
    """Return a case of events that arrive later, by their own time and their session's beginning."""

    def case(honest: Traffic, rng: random.Random) -> Iterator[Arrival]:
        slow = {one for one in honest.begins_ms if rng.random() < share}
        made, sent_ms = [], dict[str, int]()
        for broker_ms, event in honest.arrivals:
            at_ms = broker_ms
            if event.session_id in slow:
                at_ms += int(delay_ms(event.occurred_at_ms, honest.begins_ms[event.session_id], rng))
                if in_order:
                    at_ms = sent_ms[event.session_id] = max(at_ms, sent_ms.get(event.session_id, 0))
            made.append(Arrival(at_ms, event))
        yield from sorted(made, key=lambda arrival: arrival.broker_ms)

    return case


def _until(period_ms: int) -> Callable[[int, int, random.Random], float]:
    """Return how long an event waits that is sent at the end of each so long period of its session."""
    return lambda at_ms, begun_ms, _: period_ms - (at_ms - begun_ms) % period_ms


MINUTE_MS = 60_000
CASES: dict[str, Case] = {
    "honest": claiming(lambda at, _begun, _broker: at),
    "attackers claim gaps 10 times longer": claiming(lambda at, begun, _: begun + 10 * (at - begun), attackers=True),
    "… so that they end at the true time": claiming(lambda at, begun, _: begun + 10 * (at - begun) - 10 * MINUTE_MS, attackers=True),
    "… by as much as the tolerance hides": claiming(lambda at, begun, broker: min(broker, begun - 29_500 + 10 * (at - begun)), attackers=True),
    "attackers say that it was an hour ago, gaps 10 times longer": claiming(lambda at, begun, _: begun - 60 * MINUTE_MS + 10 * (at - begun), attackers=True),
    "attackers say one time for all": claiming(lambda _at, begun, _broker: begun, attackers=True),
    "attackers' clocks six minutes ahead": claiming(lambda at, _begun, _broker: at + 6 * MINUTE_MS, attackers=True),
    "every tenth session six minutes ahead": claiming(lambda at, _begun, _broker: at + 6 * MINUTE_MS, share=0.1),
    "every tenth an hour behind": claiming(lambda at, _begun, _broker: at - 60 * MINUTE_MS, share=0.1),
    "all 20 s behind": claiming(lambda at, _begun, _broker: at - 20_000),
    "gaps 10 times shorter": claiming(lambda at, begun, _: begun + (at - begun) / 10),
    "clocks that run 2 % fast": claiming(lambda at, begun, _: begun + 1.02 * (at - begun)),
    "seconds in place of milliseconds": claiming(lambda at, _begun, _broker: at / 1_000),
    "every second event 30 s behind": every_second,
    "5 % of neighbours swapped": swapped,
    "delays of 2 s on average, each event for itself": late(lambda _at, _begun, rng: rng.expovariate(1 / 2_000), in_order=False),
    "every tenth session sent every 20 s": late(_until(20_000), 0.1),
    "every tenth session sent every 5 minutes": late(_until(5 * MINUTE_MS), 0.1),
    "all sent every 5 minutes": late(_until(5 * MINUTE_MS)),
    "all published at once, later": lambda honest, _rng: (Arrival(START_MS + 10**10 + at // 20, one.event) for at, one in enumerate(honest.arrivals)),
}  # fmt: skip


def rows(model: Model, count: int, clocks: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Simulate, tell times, and decide."""
    honest = traffic(model, count)
    for case, arrivals in CASES.items():
        log = [
            LoggedLine(_SOURCE.topic, 0, at, one.broker_ms, one.event.account_id.encode(), encode_event(one.event), timestamp_type=_APPEND_TIME)
            for at, one in enumerate(arrivals(honest, stream(6, case)))
        ]  # fmt: skip
        told = []
        for clock in clocks:
            processor = processor_of(
                model, DetectorConfig(partitions=1, clock=clock, breaker_max_block_share=0), explains=False
            )
            blocked, wrong, letters = set[str](), 0, 0
            for one in replay(
                ({_SOURCE: log[at : at + _BATCH]} for at in range(0, len(log), _BATCH)), processor
            ):
                blocked |= {
                    alert.session_id for alert in one.outcome.alerts if alert.decision is Decision.BLOCK
                }
                wrong += one.outcome.ahead + one.outcome.late
                letters += len(one.letters)
            caught = len(blocked & honest.attacks)
            told += [
                f"{len(blocked - honest.attacks):,}",
                f"{caught / len(honest.attacks):.1%}",
                f"{wrong:,}",
                f"{letters:,}",
            ]
        yield case, *told


@click.command(help=__doc__)
@model_argument(default="default")
@click.argument("sessions", type=click.IntRange(min=1_000), default=20_000, help="20,000 unless given.")
@click.argument("clocks", type=click.Choice(_CLOCKS), nargs=-1, help="Whose time decides; all unless given.")
def main(model: Model, sessions: int, clocks: tuple[str, ...]) -> None:
    """Print a Markdown table."""
    chosen = clocks or _CLOCKS
    wanted = ("lawful blocked", "caught", "corrected", "dead letters")
    header = ["", *(f"{clock}: {what}" for clock in chosen for what in wanted)]
    for row in chain((header, ["---"] * len(header)), rows(model, sessions, chosen)):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
