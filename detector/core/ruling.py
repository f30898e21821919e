"""Rules beside the model: what a fraud team wants tonight, decided at the same events by conditions of its own (ADR 0039)."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from detector.contract.alerts import Decision, RuleReference
from detector.core.staging import Candidate


class Then(StrEnum):
    """What follows where a rule's condition holds: a decision, or none, whatever the score."""

    BLOCK = Decision.BLOCK.value
    CHALLENGE = Decision.CHALLENGE.value
    REVIEW = Decision.REVIEW.value
    ALLOW = "ALLOW"


class Rule(NamedTuple):
    """One rule.

    Attributes:
        reference: how alerts name it.
        when: its condition, as written.
        then: what follows.
        shadow: whether it is only counted and told of.
    """

    reference: RuleReference
    when: str
    then: Then
    shadow: bool

    @property
    def told(self) -> str:
        """Put it into words, for an alert."""
        return f"rule {self.reference.name}: {' '.join(self.when.split())}"


Ruled = Mapping[int, tuple[Rule, ...]]
"""Rules whose conditions held, in the order of their file, by the offset of the event. Events without any are left out."""
UNRULED: Final[Ruled] = MappingProxyType({})
Ask = Callable[[Sequence[Candidate], Sequence[float]], Ruled]
"""Which rules hold at scored events; a step that says nothing but what came of a second factor is asked of none."""


def acting(ruled: Ruled) -> dict[int, Rule]:
    """Return by the offset of the event the rule that acts there: the first that is not in shadow."""
    firsts = (
        (offset, next((one for one in rules if not one.shadow), None)) for offset, rules in ruled.items()
    )
    return {offset: rule for offset, rule in firsts if rule is not None}
