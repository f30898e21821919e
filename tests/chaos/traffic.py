"""Traffic as bad as life: interleaved sessions with repeats, late events, garbage and ids used again."""

import random
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Self

import msgspec
from kafka import KafkaProducer

from detector.contract.events import SessionAction, SessionEvent, encode_event
from detector.contract.verdicts import Finding, Verdict, encode_verdict
from producer.behaviour import seed as seed_preset
from producer.behaviour.interleave import interleave, schedule
from producer.behaviour.session import stream

LIVE_SESSIONS = 60
_SESSIONS = 1_000_000  # more than any run publishes
_REMEMBERED = 300
_ACCOUNTS = 400
_LATE_MS = 30_000
_GARBAGE = (b"", b"not JSON", b"[]", b'{"event_id": "e"}', b"\xff\x00")
_EVENTS_PER_S = 400.0
_FLUSH_EVERY = 200
_END_TIMEOUT_S = 120.0


def traffic(seed: int, start_ms: int, *, is_new: bool = True) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield (key, value) without end, in the order to publish; the same for the same seed and start.

    Accounts have several sessions each, at the same time too, on devices of theirs and on others'. What old versions
    know nothing of, and dead-letter, second factors and verdicts, is in it if it `is_new`, and what they decide otherwise:
    disorder within a session (ADR 0042).
    """
    rng = random.Random(f"{seed}/traffic")
    recent: list[SessionAction] = []
    sessions = seed_preset.sessions(_SESSIONS, seed)
    scheduled = schedule(sessions, live_sessions=LIVE_SESSIONS, rng=stream(seed, "schedule"))
    for acted in interleave(scheduled, start_ms=start_ms):
        event = _of_an_account(acted, rng)
        sent, draw = event, rng.random()
        if draw < 0.03 and recent:  # an event published twice
            sent = rng.choice(recent) if is_new else event
            yield event.account_id.encode(), encode_event(event)
        elif draw < 0.05:  # a clock that runs backwards
            late_ms = max(0, event.occurred_at_ms - rng.randrange(_LATE_MS))
            if is_new:
                sent = msgspec.structs.replace(event, occurred_at_ms=late_ms)
        elif draw < 0.06 and recent:  # a session id used again
            sent = msgspec.structs.replace(event, session_id=rng.choice(recent).session_id)
        elif draw < 0.065 and is_new:  # of a second factor, asked for or not: the breaker asks
            sent = msgspec.structs.replace(event, action=rng.choice(["STEP_UP_PASSED", "STEP_UP_FAILED"]))
        elif draw < 0.07:  # an action no model knows
            sent = msgspec.structs.replace(event, action="FLY")
        elif draw < 0.08:
            yield b"garbage", rng.choice([*_GARBAGE, None])
        elif draw < 0.085 and recent and is_new:  # what a session was found to be, rightly or not
            yield event.account_id.encode(), encode_verdict(_verdict(rng.choice(recent), rng))
        yield sent.account_id.encode(), encode_event(sent)
        recent = [*recent[-_REMEMBERED:], event]


def _verdict(event: SessionEvent, rng: random.Random) -> Verdict:
    return Verdict(
        verdict_id=f"v-{event.event_id}",
        account_id=event.account_id,
        session_id=event.session_id,
        verdict=rng.choice(list(Finding)),
        by="chaos",
        decided_at_ms=event.occurred_at_ms + rng.randrange(_LATE_MS),
        first_event_at_ms=rng.choice([None, event.occurred_at_ms]),
    )


def _of_an_account(acted: SessionEvent, rng: random.Random) -> SessionAction:
    """Give an action an account with other sessions, and fields, now and then none or of another type."""
    account = zlib.crc32(acted.session_id.encode()) % _ACCOUNTS
    devices = [f"device-{account}", f"device-{rng.randrange(_ACCOUNTS)}", None, 7]
    return SessionAction(
        event_id=acted.event_id,
        session_id=acted.session_id,
        account_id=f"account-{account}",
        action=acted.action,
        occurred_at_ms=acted.occurred_at_ms,
        amount=rng.choice([None, 12.5, 900.0, 12_000.0]),
        attributes={
            "device": rng.choices(devices, [8, 1, 1, 1])[0],
            "channel": rng.choice(["app", "web", "atm"]),
        },
    )


class Publisher:
    """Publishes at a steady rate through whatever happens. A context manager; leaving it ends the publishing."""

    def __init__(
        self, bootstrap_servers: str, topic: str, records: Iterator[tuple[bytes, bytes | None]]
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._records = records
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def _run(self) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self._bootstrap_servers,
            linger_ms=10,
            max_block_ms=120_000,
            reconnect_backoff_max_ms=500,
            metadata_max_age_ms=2_000,  # partitions are added
        )
        next_s, published = time.monotonic(), 0
        while not self._stopping.is_set():
            if published % _FLUSH_EVERY == 0:  # what the broker does not take is not piled up
                producer.flush()
                next_s = max(next_s, time.monotonic() - 1)
            key, value = next(self._records)
            producer.send(self._topic, value, key=key)
            published += 1
            next_s += 1 / _EVENTS_PER_S
            time.sleep(max(0.0, next_s - time.monotonic()))
        producer.close(timeout=_END_TIMEOUT_S)

    def stop(self) -> None:
        """End it, and wait for what it sent."""
        self._stopping.set()
        self._thread.join(_END_TIMEOUT_S)

    def __enter__(self) -> Self:
        """Begin to publish."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Tell it to end."""
        self._stopping.set()
