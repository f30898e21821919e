"""The verdicts that the console knows: bounded, those on its alerts for as long as these are kept."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from detector.contract.verdicts import Verdict

MOST_OF_A_SESSION = 4
"""Its last ones: which holds, and what it was before."""
Session = tuple[str, str]
"""Account and session: a session's id alone is anybody's to choose."""


class NumberedVerdict(NamedTuple):
    """A verdict and when, in the order of arrival, it came."""

    number: int
    verdict: Verdict


class Judged:
    """Verdicts by session, each once.

    Args:
        most: sessions; beyond, the one longest not judged goes that `is_needed` does not name. At most as many are
            needed as there are alerts, so that with twice as many there is always one.
        is_needed: whether a session has alerts that are kept.
    """

    def __init__(self, most: int, is_needed: Callable[[Session], bool]) -> None:
        self._most = most
        self._is_needed = is_needed
        self._by_session: dict[Session, list[NumberedVerdict]] = {}  # the longest not judged first
        self.number = 0

    def add(self, verdict: Verdict, number: int) -> bool:
        """Take a verdict in; tell whether it is news. It isn't where it is known, or older than those that are kept."""
        session = (verdict.account_id, verdict.session_id)
        known = self._by_session.pop(session, [])
        ids = {one.verdict.verdict_id for one in known}
        # Of two that were decided at the same time the later record holds: sorting keeps their order.
        both = sorted([*known, NumberedVerdict(number, verdict)], key=lambda one: one.verdict.decided_at_ms)
        kept = known if verdict.verdict_id in ids else both[-MOST_OF_A_SESSION:]
        self._by_session[session] = kept
        while len(self._by_session) > self._most:
            oldest = next(iter(self._by_session))
            of_oldest = self._by_session.pop(oldest)
            if self._is_needed(oldest):
                self._by_session[oldest] = of_oldest  # not to be looked at again for a while
        is_news = any(one.number == number for one in kept)
        self.number = number if is_news else self.number
        return is_news

    def after(self, number: int) -> Iterator[NumberedVerdict]:
        """Yield those that came later, in no order."""
        if number < self.number:
            for of_session in self._by_session.values():
                yield from (one for one in of_session if one.number > number)
