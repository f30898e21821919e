"""Rules files: conditions in CEL, compiled once and typed against what a model reads (ADR 0039).

A condition is asked with nothing but what is known: a field that is not there, or a number that an account's history does
not tell, is left out, and what rests on it neither holds nor fails to. CEL's `&&` and `||` are made for that: a false part
makes a conjunction false whatever the unknown part is. So it is found out once for each action and the signals' codes that
rules ask for which rules can hold at all, and most events are asked of none.
"""

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from math import ceil, inf
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from detector.contract.alerts import RuleReference
from detector.contract.fields import FieldReader
from detector.core.encoding import ACTION_BYTES, Encoding
from detector.core.ruling import Rule, Ruled, Then
from detector.core.signals import ABSENT, FIRST, OF_GAP, UNKNOWN, Kind, Signal, number
from detector.core.staging import Candidate

MAX_RULES, MAX_BYTES, MAX_CONDITION = 64, 64 * 1024, 2_000
_AMOUNT: Final = "amount"
_NEVER: Final = timedelta(days=3_650_000)
"""How long ago what never happened is: longer than anything."""
_MAX_REMEMBERED: Final = 65_536
_RESERVED: Final = re.compile(
    "as|break|const|continue|else|false|for|function|if|import|in|let|loop|namespace|null|package|return|true|var|void|while"
)


class RulesRefusedError(ValueError):
    """A rules file can't be used. The message says which rule, in which line, and why."""


class _Declared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule as its file has it."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]
    when: Annotated[str, msgspec.Meta(max_length=MAX_CONDITION)]
    then: Then
    shadow: bool = True


class Variable(NamedTuple):
    """What conditions may name.

    Attributes:
        name: as they do.
        type: in CEL's words.
        values: of a signal, by its code, None where nothing is known; of an action, those in the vocabulary. Empty of any
            other.
        signal: its index among the model's; None of what is none.
    """

    name: str
    type: str
    values: tuple[Any, ...] = ()
    signal: int | None = None


def variables_of(encoding: Encoding) -> list[Variable]:
    """Return what conditions may name under a model: what every event has, and its signals as `name.kind`."""
    found = [
        Variable("action", "string", () if encoding.unknown_token else encoding.vocabulary),
        Variable("score", "double"),
        Variable(_AMOUNT, "double"),
        Variable("gap", "duration"),
        Variable("action_number", "int"),
    ]
    names: set[str] = set()
    for at, one in enumerate(encoding.signals.declared):
        name = plain = _identifier(one.name)
        while name in names:
            name = f"{plain}_{len(names)}"
        names.add(name)
        found += (Variable(f"{name}.{what}", *told, at) for what, told in _told(one).items())
    return found


def _identifier(name: str) -> str:
    """Make of a signal's name one that CEL takes."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{plain}" if plain[0].isdigit() or _RESERVED.fullmatch(plain) else plain


def _told(signal: Signal) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """Return type and values of what a signal tells, by the codes: of what lies between bounds, the lower one."""

    def by_code(unknown: Any, values: Sequence[Any]) -> tuple[Any, ...]:
        known = {ABSENT: None, UNKNOWN: unknown} | dict(enumerate(values, start=FIRST))
        return tuple(known.get(code) for code in range(signal.codes))

    times = [timedelta(), *(timedelta(milliseconds=one) for one in signal.bounds)]
    known_for: dict[str, tuple[str, tuple[Any, ...]]] = {}
    match signal.kind:
        case Kind.LEVEL:
            told = "string", by_code(None, [*signal.values, "other"])
        case Kind.NOVELTY:
            told = "string", by_code("no history", ["never", *["known"] * len(times)])
            known_for = {"known_for": ("duration", by_code(None, [None, *times]))}
        case Kind.CHANGE:
            told = "bool", by_code(None, [False, True])
        case Kind.SINCE:
            told = "duration", by_code(_NEVER, times)
        case Kind.COUNT:  # in whole numbers, as `detector.core.wording` tells it
            told = "int", by_code(None, [0, *(max(0, ceil(one)) for one in signal.bounds)])
        case Kind.MAGNITUDE if signal.of == OF_GAP:
            told = "duration", by_code(None, times)
        case _:
            told = "double", by_code(None, [-inf, *map(float, signal.bounds)])
    return {signal.kind.value: told} | known_for


class _Left(NamedTuple):
    """Rules that may hold at events of an action and some codes, and what they are asked with.

    Attributes:
        known: values by name.
        exact: names of what else they ask for.
        rules: with their programs; without one where it holds already.
    """

    known: dict[str, Any]
    exact: tuple[str, ...]
    rules: tuple[tuple[Rule, Any], ...]


class Rules:
    """The rules of a file, compiled for a model.

    Args:
        text: of the file.
        encoding: of the model. Another one of the same fingerprint will do.
        where: how errors call the file.

    Attributes:
        text: of the file.
        sha256: of that, hexadecimal.
        encoding: as given.
        rules: in the order of the file.
        reader: of the fields that events need beside what every one has: those of the signals first.

    Raises:
        RulesRefusedError: a rule does not fit.
    """

    def __init__(self, text: str, encoding: Encoding, where: str = "rules") -> None:
        self.text, self.encoding = text, encoding
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()
        self._where, self._variables = where, variables_of(encoding)
        fields = tuple(dict.fromkeys((*encoding.signals.fields, _AMOUNT)))
        self.reader, self._amount_at = FieldReader(fields), fields.index(_AMOUNT)
        declared = self._declared()
        self._env: Any = _environment(self._variables, where) if declared else None
        compiled = [self._compile(one, line) for one, line in declared]
        self.rules = tuple(rule for rule, _, _ in compiled)
        self._compiled = compiled
        asked = {one.name for _, _, names in compiled for one in names}
        self._of_signals = [one for one in self._variables if one.signal is not None and one.name in asked]
        places = sorted({one.signal for one in self._of_signals if one.signal is not None})
        self._codes_at = {place: at for at, place in enumerate(places)}
        back = [place + ACTION_BYTES - encoding.step_bytes for place in places]
        self._codes: Callable[[bytes], Any] = itemgetter(*back) if back else lambda _: ()
        self._left: dict[Any, _Left] = {}

    @property
    def blocking(self) -> list[str]:
        """Conditions that block: what the circuit breaker takes for a change of who is blocked."""
        return [one.when for one in self.rules if one.then is Then.BLOCK and not one.shadow]

    def of(self, candidates: Sequence[Candidate], scores: Sequence[float]) -> Ruled:
        """Return which rules hold at scored events."""
        left, codes, ruled = self._left, self._codes, dict[int, tuple[Rule, ...]]()
        if not self.rules:
            return ruled
        for candidate, score in zip(candidates, scores, strict=True):
            if not candidate.is_step:
                continue
            key = candidate.event.action, codes(candidate.steps)
            asked = left.get(key) or self._ask(key)
            if asked.rules and (found := self._held(asked, candidate, score)):
                ruled[candidate.offset] = found
        return ruled

    def _ask(self, key: tuple[str, Any]) -> _Left:
        """Find out which rules can hold at events of an action and some codes."""
        action, codes = key
        codes = codes if isinstance(codes, tuple) else (codes,)
        known = {"action": action} | {
            one.name: value
            for one in self._of_signals
            if one.signal is not None and (value := one.values[codes[self._codes_at[one.signal]]]) is not None
        }
        activation = self._env.Activation(known)
        left: list[tuple[Rule, Any, list[Variable]]] = []
        for rule, program, names in self._compiled:
            answer = program.eval(activation).value()
            exact = any(one.name in _EXACT for one in names)
            if answer is True:
                left.append((rule, None, []))
            elif answer is not False and exact:  # else it asks for what is not known
                left.append((rule, program, names))
        if len(self._left) >= _MAX_REMEMBERED:  # of actions that no model knows there may be any number
            self._left.clear()
        wanted = dict.fromkeys(one.name for _, _, names in left for one in names)
        found = self._left[key] = _Left(
            {name: known[name] for name in wanted if name in known},
            tuple(name for name in wanted if name in _EXACT),
            tuple((rule, program) for rule, program, _ in left),
        )
        return found

    def _held(self, asked: _Left, candidate: Candidate, score: float) -> tuple[Rule, ...]:
        activation = None
        if asked.exact:
            exact = {name: _EXACT[name](self, candidate, score) for name in asked.exact}
            known = {name: value for name, value in exact.items() if value is not None}
            activation = self._env.Activation(asked.known | known)
        return tuple(
            rule
            for rule, program in asked.rules
            if program is None or program.eval(activation).value() is True
        )

    def amount_of(self, candidate: Candidate) -> float | None:
        """Return an event's amount, if it has one."""
        fields = candidate.fields
        value = fields[self._amount_at] if len(fields) > self._amount_at else None
        return None if value is None else number(value)

    # The file.

    def _declared(self) -> list[tuple[_Declared, int]]:
        """Return the rules of the file, each with the line that it begins at."""
        try:
            tables = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise self._refused(f"{error}: expected TOML") from error
        declared = tables.pop("rule", [])
        if tables or not isinstance(declared, list) or len(declared) > MAX_RULES:
            raise self._refused(
                f"it has {', '.join(tables) or 'too many rules'}: expected up to {MAX_RULES} [[rule]] and no more"
            )
        lines = [
            at for at, line in enumerate(self.text.splitlines(), 1) if re.match(r"\s*\[\[\s*rule\s*]]", line)
        ]
        found: list[tuple[_Declared, int]] = []
        for at, table in enumerate(declared):
            line = lines[at] if len(lines) == len(declared) else 1
            try:
                one = msgspec.convert(table, _Declared)
            except msgspec.ValidationError as error:
                name = table.get("name") if isinstance(table, dict) else None
                raise self._refused(str(error), line, name) from error
            if one.name in {other.name for other, _ in found}:
                raise self._refused("there is another of that name: expected each once", line, one.name)
            found.append((one, line))
        return found

    def _compile(self, one: _Declared, line: int) -> tuple[Rule, Any, list[Variable]]:
        try:
            program = self._env.compile(one.when)
        except RuntimeError as error:
            raise self._refused(*self._reason(str(error), line), one.name) from error
        if (kind := program.return_type().name()) != "BOOL":
            raise self._refused(f"it comes to {kind}: expected true or false", line, one.name)
        words = set(re.findall(r"\w+", one.when))  # which it names, and perhaps more
        names = [each for each in self._variables if words.issuperset(each.name.split("."))]
        for each in names:
            values = dict.fromkeys(value for value in each.values if value is not None)
            answers = [program.eval(self._env.Activation({each.name: value})).value() for value in values]
            if answers and all(answer is False for answer in answers):
                told = ", ".join(map(as_told, values))
                raise self._refused(
                    f"it never holds, whatever {each.name} is: expected a condition on {told}", line, one.name
                )
        reference = RuleReference(name=one.name, sha256=self.sha256)
        return Rule(reference, one.when, one.then, one.shadow), program, names

    def _reason(self, told: str, begins: int) -> tuple[str, int]:
        """Return why CEL refuses the condition of the rule that begins at a line, and in which line."""
        found = re.search(r"<input>:(\d+):(\d+): (.*)", told)
        if found is None:
            return told, begins
        line, column, reason = found.groups()
        lines = self.text.splitlines()
        at = next((at for at in range(begins, len(lines)) if re.match(r"\s*when\s*=", lines[at])), begins - 1)
        opens = re.search(r"=\s*(\"\"\"|''')\s*$", lines[at])  # whose line break TOML drops
        reason = reason.replace(" (in container '')", "")
        if reason.startswith("undeclared"):
            reason += "; `python -m detector rules` lists what there is under a model"
        return f"column {column} of the condition: {reason}", at + int(line) + bool(opens)

    def _refused(self, reason: str, line: int | None = None, name: object = None) -> RulesRefusedError:
        where = f", line {line}" if line else ""
        return RulesRefusedError(
            f"{self._where}{where}{f', rule {name!r}' if name else ''} is refused: {reason}"
        )


_EXACT: Final[Mapping[str, Callable[[Rules, Candidate, float], Any]]] = {
    "score": lambda _, __, score: score,
    _AMOUNT: lambda rules, candidate, _: rules.amount_of(candidate),
    "gap": lambda _, candidate, __: (
        None if candidate.gap_ms is None else timedelta(milliseconds=candidate.gap_ms)
    ),
    "action_number": lambda _, candidate, __: candidate.action_number,
}
"""What is not known before an event comes."""


def _environment(variables: Sequence[Variable], where: str) -> Any:
    try:
        from cel_expr_python import cel  # noqa: PLC0415  51 MB that most do without
    except ImportError as error:
        raise RulesRefusedError(
            f"{where} needs a library that is not installed: expected the extra 'rules', as by `pip install "
            "session-fraud-detector[rules]`"
        ) from error
    types = {
        name: getattr(cel.Type, name.upper()) for name in ("string", "double", "duration", "int", "bool")
    }
    return cel.NewEnv(variables={one.name: types[one.type] for one in variables})


def as_told(value: object) -> str:
    """Put a value as a condition would."""
    if isinstance(value, timedelta):
        return f'duration("{value.total_seconds():.0f}s")' if value < _NEVER else "never"
    if value == -inf:
        return "less"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def load_rules(path: Path, encoding: Encoding) -> Rules:
    """Load a rules file for a model.

    Raises:
        RulesRefusedError: it can't be read, or a rule does not fit.
    """
    where = f"rules file {path}"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RulesRefusedError(f"{where} is refused: {error}: expected TOML in UTF-8") from error
    if len(data) > MAX_BYTES:
        raise RulesRefusedError(f"{where} is refused: expected at most {MAX_BYTES:,} bytes")
    return Rules(text, encoding, where)
