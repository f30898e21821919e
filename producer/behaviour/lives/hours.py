"""When people come: hours, weekdays, payday."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
WEEK: Final = 7
FIRST_WEEKDAY: Final = 3
"""1970-01-01 was a Thursday; a Monday is 0."""
SATURDAY: Final = 5
MONTH_DAYS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What the rhythms of one type of customer have in common."""

    hours: tuple[float, ...] = (7.0, 9.0, 12.5, 15.0, 18.0, 20.0, 21.5)
    """Of the day, UTC: one to `most_hours` of them are a person's own."""
    most_hours: int = 3
    spread_h: tuple[float, float] = (0.5, 1.6)
    """Standard deviation about each, from and to."""
    any_hour: float = 0.08
    """Share of visits at no particular hour."""
    weekend: float = 1.0
    """Median visits on a Saturday or Sunday, by those on another day."""
    after_payday: float = 2.0
    """Visits in the two days after it, by those of other days."""


STYLES: Final[Mapping[str, Style]] = {
    "business": Style(hours=(8.0, 9.5, 11.0, 14.0, 16.5), weekend=0.08, after_payday=1.0),
    "aggregator": Style(
        hours=tuple(map(float, range(24))), spread_h=(0.02, 0.3), any_hour=0.02, after_payday=1.0
    ),
    "payment_script": Style(
        hours=tuple(map(float, range(24))),
        most_hours=2,
        spread_h=(0.02, 0.3),
        any_hour=0.04,
        weekend=0.05,
        after_payday=1.0,
    ),
}
"""By type of customer; every other type has `Style()`."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """One customer's own habits of time."""

    visits: tuple[float, ...]
    """Expected a day, by weekday from Monday on."""
    hours: tuple[tuple[float, float], ...]
    """Hour of the day, and the standard deviation about it."""
    any_hour: float
    payday: int
    """Day of the simulated month of 30 days."""
    after_payday: float

    def draw_visits_ms(self, rng: random.Random, day: int, share: float = 1.0) -> list[int]:
        """Draw the visits of a day (days since 1970-01-01): Unix milliseconds, unsorted.

        Args:
            rng: drawn from.
            day: which.
            share: of the usual number, less when the customer is away.
        """
        expected = share * self.visits[(day + FIRST_WEEKDAY) % WEEK]
        if (day - self.payday) % MONTH_DAYS < 2:  # noqa: PLR2004  days
            expected *= self.after_payday
        # A Poisson number, by Knuth's product (The Art of Computer Programming, volume 2, 3.4.1).
        least, product, visits = math.exp(-expected), rng.random(), []
        while product > least:
            visits.append(self.draw_time_ms(rng, day))
            product *= rng.random()
        return visits

    def draw_time_ms(self, rng: random.Random, day: int) -> int:
        """Draw a moment of a day at which the customer might come."""
        if rng.random() < self.any_hour:
            hour = rng.uniform(0.0, 24.0)
        else:
            hour = rng.gauss(*rng.choice(self.hours)) % 24.0
        return day * DAY_MS + int(hour * HOUR_MS)


def draw_rhythm(rng: random.Random, style: Style, visits_a_day: float) -> Rhythm:
    """Draw a customer's habits of time."""
    own = visits_a_day * math.exp(rng.gauss(-0.08, 0.4))  # the mean of the factor is 1
    by_day = [math.exp(rng.gauss(0.0, 0.3)) for _ in range(WEEK)]
    for weekend in (SATURDAY, SATURDAY + 1):
        by_day[weekend] *= style.weekend
    return Rhythm(
        visits=tuple(own * WEEK * factor / sum(by_day) for factor in by_day),
        hours=tuple(
            (hour, rng.uniform(*style.spread_h))
            for hour in rng.sample(style.hours, rng.randint(1, style.most_hours))
        ),
        any_hour=style.any_hour,
        payday=rng.randrange(MONTH_DAYS),
        after_payday=style.after_payday,
    )
