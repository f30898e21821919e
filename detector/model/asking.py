"""Asking rules at events, mostly without asking: what comes of the action and the signals' codes is found out once (ADR 0039)."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from detector.core.encoding import ACTION_BYTES
from detector.core.ruling import Rule
from detector.model.variables import ACTION, EXACT, PROBES, Variable

MAX_REMEMBERED: Final = 4_096
Compiled = tuple[Rule, Any, list[Variable]]
"""A rule, its program, and the variables that it may ask for."""


class Asked:
    """A rule at events of one action.

    Args:
        compiled: the rule, its program, and the variables that it may ask for.
        action: of the events.
        environment: of the program.
        step_bytes: of the model's steps.
    """

    def __init__(self, compiled: Compiled, action: str, environment: Any, step_bytes: int) -> None:
        self.rule, self.program, names = compiled
        self._action, self._environment = action, environment
        self._names = [one for one in names if one.signal is not None]
        self.exact = tuple(one.name for one in names if one.name in EXACT)
        self.places = [
            one.signal + ACTION_BYTES - step_bytes for one in self._names if one.signal is not None
        ]
        self._answers: dict[Any, bool | dict[str, Any]] = {}

    def answer(self, steps: bytes, lacked: frozenset[str]) -> bool | dict[str, Any]:
        """Return whether it holds, by the signals and what the event lacks; what is known where that takes what it has."""
        key = bytes([steps[place] for place in self.places]), lacked
        if (answer := self._answers.get(key)) is None:
            answer = self._answers[key] = self._find(*key)
        return answer

    def _find(self, codes: bytes, lacked: frozenset[str]) -> bool | dict[str, Any]:
        known: dict[str, Any] = {ACTION: self._action}
        probes = {name: PROBES[name] for name in self.exact if name in lacked}
        for one, code in zip(self._names, codes, strict=True):
            if (value := one.values[code]) is not None:
                known[one.name] = value
            else:
                probes[one.name] = one.values
        # What holds without knowing something holds whatever that is: where it would not, it can't hold.
        cannot = any(
            self._ask(known | {name: value}) is False
            for name, values in probes.items()
            for value in values
            if value is not None
        )
        answer = False if cannot else self._ask(known)
        return answer if isinstance(answer, bool) else known if self.exact else False

    def _ask(self, known: dict[str, Any]) -> Any:
        return self.program.eval(self._environment.Activation(known)).value()


class Case(NamedTuple):
    """What events of an action with the same codes have in common.

    Attributes:
        held: rules that hold.
        left: all that may, in their order, with their programs; without one where it holds already.
        known: values by name.
        either: the program that tells whether any of those holds that are not told yet; None if all are.
    """

    held: tuple[Rule, ...]
    left: tuple[tuple[Rule, Any], ...] = ()
    known: Mapping[str, Any] = MappingProxyType({})
    either: Any = None


class Cases:
    """Those of an action, by the codes of all signals that its rules ask for and by what an event lacks."""

    def __init__(self, asked: Sequence[Asked], environment: Any) -> None:
        self.asked, self._environment = asked, environment
        places = sorted({place for one in asked for place in one.places})
        self._codes: Callable[[bytes], Any] = itemgetter(*places) if places else lambda _: ()
        self._known: dict[Any, Case] = {}
        self._either: dict[tuple[int, ...], Any] = {}

    def of(self, steps: bytes, lacked: frozenset[str]) -> Case:
        """Return that of an event."""
        key = self._codes(steps), lacked
        case = self._known.get(key)
        if case is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            case = self._known[key] = self._find(steps, lacked)
        return case

    def _find(self, steps: bytes, lacked: frozenset[str]) -> Case:
        answers = [(one, answer) for one in self.asked if (answer := one.answer(steps, lacked)) is not False]
        held = tuple(one.rule for one, answer in answers if answer is True)
        asked = [(at, one, answer) for at, (one, answer) in enumerate(answers) if isinstance(answer, dict)]
        if not asked:
            return Case(held)
        known = {name: value for _, _, answer in asked for name, value in answer.items()}
        left = tuple((one.rule, None if answer is True else one.program) for one, answer in answers)
        # A call costs more than what it computes: mostly one tells that none of them holds.
        key = tuple(self.asked.index(one) for _, one, _ in asked)
        if key not in self._either:
            conditions = " || ".join(f"({one.rule.when}\n)" for _, one, _ in asked)
            self._either[key] = self._environment.compile(conditions)
        return Case(held, left, known, self._either[key])
