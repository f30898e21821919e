"""Asking rules at events, mostly without asking: what comes of the action and the signals' codes is found out once (ADR 0039)."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from detector.core.encoding import ACTION_BYTES
from detector.core.ruling import Rule
from detector.model.variables import ACTION, EXACT, PROBES, Variable

MAX_REMEMBERED: Final = 65_536
"""So much is remembered, some 60 MB: of signals' codes, and of actions that no model knows, there may be any number."""
_MAX_TOGETHER: Final = 256
_ASKS_EACH: Final = "true"
Compiled = tuple[Rule, Any, list[Variable]]
"""A rule, its program, and the variables that it may ask for."""


def ask(program: Any, activation: Any) -> Any:
    """Return what a condition comes to; of what can't be told the reason, as where it loops for longer than CEL allows."""
    try:
        return program.eval(activation).value()
    except RuntimeError as error:
        return str(error)


class Asker:
    """What rules of one file have in common, whatever the action.

    Args:
        environment: of their programs.
        step_bytes: of the model's steps.

    Attributes:
        remembered: how much is, of all actions.
    """

    def __init__(self, environment: Any, step_bytes: int) -> None:
        self.environment, self.step_bytes, self.remembered = environment, step_bytes, 0
        self._together: dict[tuple[str, ...], Any] = {}

    def together(self, rules: Sequence[Rule]) -> Any:
        """Return a program that is false if none of these holds: a call costs more than what it computes."""
        key = tuple(one.reference.name for one in rules)
        if key not in self._together:
            if len(self._together) >= _MAX_TOGETHER:
                return self.environment.compile(_ASKS_EACH)
            self._together[key] = self._compiled(rules)
        return self._together[key]

    def _compiled(self, rules: Sequence[Rule]) -> Any:
        try:
            return self.environment.compile(" || ".join(f"({one.when}\n)" for one in rules))
        except RuntimeError:  # each is as deep as may be, and all of them deeper
            return self.environment.compile(_ASKS_EACH)


class Asked:
    """A rule at events of one action.

    Args:
        compiled: the rule, its program, and the variables that it may ask for.
        action: of the events.
        asker: of its file.
    """

    def __init__(self, compiled: Compiled, action: str, asker: Asker) -> None:
        self.rule, self.program, names = compiled
        self._action, self._asker, step_bytes = action, asker, asker.step_bytes
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
            self._asker.remembered += 1
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
        return ask(self.program, self._asker.environment.Activation(known))


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

    def __init__(self, asked: Sequence[Asked], asker: Asker) -> None:
        self.asked, self._asker = asked, asker
        places = sorted({place for one in asked for place in one.places})
        self._codes: Callable[[bytes], Any] = itemgetter(*places) if places else lambda _: ()
        self._known: dict[Any, Case] = {}
        asker.remembered += 1 + len(asked)

    def of(self, steps: bytes, lacked: frozenset[str]) -> Case:
        """Return that of an event."""
        key = self._codes(steps), lacked
        case = self._known.get(key)
        if case is None:
            case = self._known[key] = self._find(steps, lacked)
            self._asker.remembered += 1
        return case

    def _find(self, steps: bytes, lacked: frozenset[str]) -> Case:
        answers = [(one, answer) for one in self.asked if (answer := one.answer(steps, lacked)) is not False]
        held = tuple(one.rule for one, answer in answers if answer is True)
        asked = [(one, answer) for one, answer in answers if isinstance(answer, dict)]
        if not asked:
            return Case(held)
        known = {name: value for _, answer in asked for name, value in answer.items()}
        left = tuple((one.rule, None if answer is True else one.program) for one, answer in answers)
        return Case(held, left, known, self._asker.together([one.rule for one, _ in asked]))
