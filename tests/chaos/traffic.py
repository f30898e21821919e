"""Traffic as bad as life: interleaved sessions with repeats, late events, garbage and ids used again."""

import random
from collections.abc import Iterator

from detector.contract.events import SessionEvent, encode_event
from producer.behaviour import seed as seed_preset
from producer.behaviour.interleave import interleave, schedule
from producer.behaviour.session import stream

LIVE_SESSIONS = 60
_REMEMBERED = 300
_LATE_MS = 30_000
_GARBAGE = (b"", b"not JSON", b"[]", b'{"event_id": "e"}', b"\xff\x00")


def traffic(seed: int, start_ms: int) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield (key, value) without end, in the order to publish; the same for the same seed and start."""
    rng = random.Random(f"{seed}/traffic")
    recent: list[SessionEvent] = []
    for event in _events(seed, start_ms):
        draw = rng.random()
        if draw < 0.03 and recent:  # an event published twice
            event = rng.choice(recent)  # noqa: PLW2901
        elif draw < 0.05:  # a clock that runs backwards
            event = _changed(event, occurred_at_ms=max(0, event.occurred_at_ms - rng.randrange(_LATE_MS)))  # noqa: PLW2901
        elif draw < 0.06 and recent:  # a session id used again
            event = _changed(event, session_id=rng.choice(recent).session_id)  # noqa: PLW2901
        elif draw < 0.07:  # an action no model knows
            event = _changed(event, action="FLY")  # noqa: PLW2901
        elif draw < 0.08:
            yield b"garbage", rng.choice([*_GARBAGE, None])
        yield event.session_id.encode(), encode_event(event)
        recent = [*recent[-_REMEMBERED:], event]


def _events(seed: int, start_ms: int) -> Iterator[SessionEvent]:
    sessions = seed_preset.sessions(200_000, seed)
    scheduled = schedule(sessions, live_sessions=LIVE_SESSIONS, rng=stream(seed, "schedule"))
    return interleave(scheduled, start_ms=start_ms)


def _changed(event: SessionEvent, **changes: object) -> SessionEvent:
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return SessionEvent(**(fields | changes))
