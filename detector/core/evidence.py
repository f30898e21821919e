"""Evidence that adds up: from the scores of a session's windows, one after the other, to the score of the session.

A window forgets what has left it, and the highest of thousands of windows collects bad luck. So a model may carry
evidence over from action to action: with l the logit of the window's score, A becomes max(floor, A + v * l + u). With
a floor that is Page's cumulative sum (Biometrika 1954), without one Wald's sequential test (1945). ADR 0027.
"""

from collections.abc import Iterable
from math import exp, log
from struct import Struct

import msgspec

MIN_SCORE = 1e-6
"""Nearer to 0 or 1 a window's score says no more. In single precision, scores near 1 are a sixteenth of their odds
apart there and soon a whole one, and a single window must not outweigh hundreds."""
MAX_PARAMETER = 1e6
"""Keeps every sum finite, over as many actions as a session can count."""
_MAX_SCORE = 1 - MIN_SCORE
_to_bytes, _of_bytes = Struct("<f").pack, Struct("<f").unpack


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a model's windows add up. After the action of number t the session's score is sigmoid(b + w l + A / (1 + t / tau)).

    Attributes:
        window_weight: w, of the window's logit.
        bias: b.
        logit_weight: v, what of each logit is carried over.
        drift: u, added with each action.
        floor: what is carried never falls below it, so that no lawful-looking prelude buys trust without end; 0 or
            below. None is no floor.
        scale_actions: tau, after how many actions what was carried counts half. None counts it whole.

    Raises:
        ValueError: a parameter is not finite or beyond MAX_PARAMETER, the floor above 0, or the scale not above 0.
    """

    window_weight: float
    bias: float
    logit_weight: float
    drift: float
    floor: float | None = None
    scale_actions: float | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and not abs(value) <= MAX_PARAMETER:  # nor is NaN
                raise ValueError(f"{name} is {value}: expected a number of at most {MAX_PARAMETER:g} in size")
        if self.floor is not None and self.floor > 0:
            raise ValueError(f"floor is {self.floor}: expected 0 or below, or none")
        if self.scale_actions is not None and self.scale_actions <= 0:
            raise ValueError(f"scale_actions is {self.scale_actions}: expected a number above 0, or none")

    def weigh(self, window_score: float, carried: float, action_number: int) -> tuple[float, float]:
        """Return the session's score after an action, in single precision as windows' are, and what is carried on.

        The one place where it is computed, in serving and in training: the same arguments give the same bits.

        Args:
            window_score: of the window that ends with the action, from 0 to 1.
            carried: what the action before left; 0 for a session's first.
            action_number: of the action in its session, from 1.
        """
        logit = _logit(window_score)
        carried += self.logit_weight * logit + self.drift
        if self.floor is not None and carried < self.floor:
            carried = self.floor
        return self._score(logit, carried, action_number), carried

    def standing(self, window_score: float, carried: float, action_number: int) -> float:
        """Return the session's score as it stands after an action, from what that action left."""
        return self._score(_logit(window_score), carried, action_number)

    def _score(self, logit: float, carried: float, action_number: int) -> float:
        before = carried if self.scale_actions is None else carried / (1 + action_number / self.scale_actions)
        sum_ = self.bias + self.window_weight * logit + before
        if sum_ >= 0:
            risk = 1 / (1 + exp(-sum_))
        else:
            odds = exp(sum_)
            risk = odds / (1 + odds)
        (score,) = _of_bytes(_to_bytes(risk))
        return float(score)

    def in_session(self, window_scores: Iterable[float], carried: float, action_number: int) -> list[float]:
        """Return what the session's score would be, had the window that ends with an action each of these scores."""
        return [self.weigh(one, carried, action_number)[0] for one in window_scores]

    def session_scores(self, window_scores: Iterable[float]) -> list[float]:
        """Return a session's score after each of its actions, from those of the windows that end with them."""
        scores, carried = [], 0.0
        for number, window_score in enumerate(window_scores, start=1):
            score, carried = self.weigh(window_score, carried, number)
            scores.append(score)
        return scores


def _logit(window_score: float) -> float:
    clipped = MIN_SCORE if window_score < MIN_SCORE else min(window_score, _MAX_SCORE)
    return log(clipped / (1 - clipped))
