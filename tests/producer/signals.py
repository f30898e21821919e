"""What a shallow look at an account's own past gives: one number a signal, session by session."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from detector.contract.actions import Action
from producer.behaviour.lives.hours import DAY_MS, HOUR_MS
from producer.behaviour.session import SimulatedSession

NEVER = 1e6
KNOWN = ("device", "channel", "country", "network")
LEAST_HISTORY = 5


@dataclass(slots=True)
class Past:
    """What an account's sessions so far have shown."""

    first_seen_ms: dict[tuple[str, str], int] = field(default_factory=dict)
    amounts: list[float] = field(default_factory=list)
    paces: list[float] = field(default_factory=list)
    begins_ms: list[int] = field(default_factory=list)
    failures_ms: list[int] = field(default_factory=list)
    password_ms: float = -NEVER * DAY_MS

    def age_h(self, kind: str, value: str, at_ms: int) -> float:
        """Return for how many hours a value has been known; -1 for never."""
        since_ms = self.first_seen_ms.get((kind, value))
        return -1.0 if since_ms is None else (at_ms - since_ms) / HOUR_MS


def mean(values: list[float]) -> float:
    """Return the mean, 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def signals(
    begun: Iterable[tuple[int, SimulatedSession]], start_ms: int
) -> Iterator[tuple[int, SimulatedSession, dict[str, float]]]:
    """Yield each session with its beginning (Unix milliseconds) and its signals, by what was before it."""
    pasts: dict[str, Past] = defaultdict(Past)
    for begins_ms, session in begun:
        at_ms, past = start_ms + begins_ms, pasts[session.account_id]
        recipients = [detail["recipient"] for detail in session.details if "recipient" in detail]
        amounts = [math.log(amount) for amount in session.amounts if amount]
        pace = mean([math.log(gap_ms) for gap_ms in session.gaps_ms[1:]])
        hour = at_ms % DAY_MS / HOUR_MS
        apart = [abs(hour - then_ms % DAY_MS / HOUR_MS) for then_ms in past.begins_ms]
        days = [(then_ms // DAY_MS) % 7 for then_ms in past.begins_ms]
        failures = sum(detail.get("outcome") == "failure" for detail in session.details)
        past.failures_ms += [at_ms] * failures
        enough = len(apart) >= LEAST_HISTORY
        yield (
            at_ms,
            session,
            {
                **{f"{kind} known": past.age_h(kind, session.attributes[kind], at_ms) for kind in KNOWN},
                "recipient known": min(
                    (past.age_h("recipient", r, at_ms) for r in recipients), default=NEVER
                ),
                "amount": max(amounts, default=-1.0),
                "amounts together": math.log1p(sum(amount or 0 for amount in session.amounts)),
                "amount by the usual": max(amounts) - mean(past.amounts) if amounts and past.amounts else 0.0,
                "amount by the highest": max(amounts) - max(past.amounts)
                if amounts and past.amounts
                else 0.0,
                "hour": hour,
                "hour usual": mean([float(min(h, 24 - h) < 1) for h in apart]) if enough else 0.5,
                "day usual": days.count((at_ms // DAY_MS) % 7) / len(days) if enough else 0.5,
                "since session": math.log1p(at_ms - past.begins_ms[-1]) if past.begins_ms else NEVER,
                "sessions in a day": float(sum(at_ms - then_ms < DAY_MS for then_ms in past.begins_ms)),
                "failures": float(failures),
                "failures in a day": float(sum(at_ms - then_ms < DAY_MS for then_ms in past.failures_ms)),
                "since password": math.log1p(at_ms - past.password_ms),
                "pace by the usual": pace - mean(past.paces) if pace and past.paces else 0.0,
                **{action: float(session.actions.count(action)) for action in Action},
                "millisecond": at_ms % 1_000,
                "second": at_ms // 1_000 % 3_600,
            },
        )
        for kind in KNOWN:
            past.first_seen_ms.setdefault((kind, session.attributes[kind]), at_ms)
        for recipient in recipients:
            past.first_seen_ms.setdefault(("recipient", recipient), at_ms)
        past.amounts += amounts
        past.begins_ms.append(at_ms)
        past.paces += [pace] if pace else []
        if Action.CHANGE_PASSWORD in session.actions:
            past.password_ms = at_ms
