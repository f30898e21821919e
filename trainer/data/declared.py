"""The signals that a model reads unless told otherwise: of the contract's fields, as the simulator fills them.

Chosen so that a typical account takes 256 bytes at most. Boosted trees on lives miss none that is left out: the pace of an
account, transfers of a day beside those of an hour and a week, how long the account and its actions are known. Changes of
a device or country within a session, which the simulator never shows, would have codes that nothing was learned for.
"""

from typing import Final

from detector.contract.actions import Action
from detector.core.signals import OF_ACTION, OF_BEGIN, OF_TIME, Kind, Signal

AMOUNT: Final = "amount"
DEVICE: Final = "attributes.device"
CHANNEL: Final = "attributes.channel"
COUNTRY: Final = "attributes.country"
NETWORK: Final = "attributes.network"
RECIPIENT: Final = "attributes.recipient"
OUTCOME: Final = "attributes.outcome"

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
_AGES: Final = tuple(float(days * DAY_MS) for days in (1, 7, 30))
_AGO: Final = tuple(
    map(float, (MINUTE_MS, 10 * MINUTE_MS, HOUR_MS, 6 * HOUR_MS, DAY_MS, 3 * DAY_MS, 7 * DAY_MS, 30 * DAY_MS))
)
_TIMES: Final = (0.1, 0.6, 1.3, 2.3, 4.3, 8.3, 16.3)
_SIGMAS: Final = (-2.0, -1.0, -0.3, 0.3, 1.0, 2.0, 3.0, 4.5, 6.5, 9.0)
_DOLLARS: Final = (20.0, 50.0, 100.0, 200.0, 350.0, 500.0, 10_000.0, 15_000.0, 22_000.0, 33_000.0, 50_000.0)
_SHARES: Final = (0.02, 0.1, 0.2, 0.35, 0.6)


def _novelty(name: str, of: str, most: int) -> Signal:
    return Signal(name=name, kind=Kind.NOVELTY, of=of, bounds=_AGES, most=most)


def _since(name: str, of: str, *values: str) -> Signal:
    return Signal(name=name, kind=Kind.SINCE, of=of, bounds=_AGO, values=values)


def _count(name: str, of: str, half_life_ms: int, *values: str) -> Signal:
    return Signal(name=name, kind=Kind.COUNT, of=of, bounds=_TIMES, values=values, half_life_ms=half_life_ms)


DEFAULT_SIGNALS: Final = (
    Signal(name="channel", kind=Kind.LEVEL, of=CHANNEL, values=("mobile", "web", "api")),
    Signal(name="outcome", kind=Kind.LEVEL, of=OUTCOME, values=("success", "failure")),
    Signal(name="amount", kind=Kind.MAGNITUDE, of=AMOUNT, bounds=_DOLLARS),
    Signal(name="amount against the usual", kind=Kind.DEVIATION, of=AMOUNT, bounds=_SIGMAS),
    _novelty("device", DEVICE, 6),
    _novelty("network", NETWORK, 6),
    _novelty("country", COUNTRY, 4),
    _novelty("recipient", RECIPIENT, 6),
    _since("since a session", OF_BEGIN),
    _since("since a password change", OF_ACTION, Action.CHANGE_PASSWORD.value),
    _since("since a recipient was added", OF_ACTION, Action.ADD_RECIPIENT.value),
    _since("since a failed login", OUTCOME, "failure"),
    _count("sessions in a week", OF_BEGIN, 7 * DAY_MS),
    _count("transfers in an hour", AMOUNT, HOUR_MS),
    _count("transfers in a week", AMOUNT, 7 * DAY_MS),
    Signal(name="hour of the day", kind=Kind.HABIT, of=OF_TIME, bounds=_SHARES),
)
