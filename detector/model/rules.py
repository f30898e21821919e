"""Rules files: conditions in CEL, compiled once and typed against what a model reads (ADR 0039).

A condition is asked with nothing but what is known: a field that is not there, or a number that an account's history does
not tell, is left out, and what rests on it neither holds nor fails to. CEL's `&&` and `||` are made for that: a false part
makes a conjunction false whatever the unknown part is. So it is found out once for each action and the signals' codes that
rules ask for which rules can hold at all, and most events are asked of none.
"""

import hashlib
import re
import tomllib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from detector.contract.alerts import RuleReference
from detector.contract.fields import FieldReader
from detector.core.encoding import Encoding
from detector.core.ruling import Rule, Ruled, Then
from detector.core.signals import number
from detector.core.staging import Candidate
from detector.model.asking import MAX_REMEMBERED, Asked, Asker, Cases, Compiled, ask
from detector.model.variables import (
    ACTION,
    ACTION_NUMBER,
    AMOUNT,
    GAP,
    SCORE,
    Variable,
    as_told,
    variables_of,
)

MAX_RULES, MAX_BYTES, MAX_CONDITION = 64, 64 * 1024, 2_000
_EXPECTED: Final = (
    "expected name, of up to 64 letters, digits, spaces, dots, dashes and underscores, when, a condition of up to "
    f"{MAX_CONDITION:,} characters, then, one of {', '.join(Then)}, and perhaps shadow, true or false"
)
_LACKED: Final = {
    (no_amount, no_gap): frozenset(name for name, lacks in ((AMOUNT, no_amount), (GAP, no_gap)) if lacks)
    for no_amount in (False, True)
    for no_gap in (False, True)
}


class RulesRefusedError(ValueError):
    """A rules file can't be used. The message says which rule, in which line, and why."""


class _Declared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule as its file has it."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}\Z")]
    when: Annotated[str, msgspec.Meta(max_length=MAX_CONDITION)]
    then: Then
    shadow: bool = True


class Rules:
    """The rules of a file, compiled for a model.

    Args:
        text: of the file.
        encoding: of the model. Another one of the same fingerprint will do.
        where: how errors call the file.
        acts: let all rules act, those in shadow too.

    Attributes:
        text: of the file.
        sha256: of that, hexadecimal.
        encoding: as given.
        rules: in the order of the file.
        reader: of the fields that events need beside what every one has: those of the signals first.

    Raises:
        RulesRefusedError: a rule does not fit.
    """

    def __init__(self, text: str, encoding: Encoding, where: str = "rules", *, acts: bool = False) -> None:
        self.text, self.encoding = text, encoding
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()
        self._where, self._acts, self._variables = where, acts, variables_of(encoding)
        fields = tuple(dict.fromkeys((*encoding.signals.fields, AMOUNT)))
        self.reader, self._amount_at = FieldReader(fields), fields.index(AMOUNT)
        declared = self._declared()
        self._env: Any = _environment(self._variables, where) if declared else None
        self._compiled = [self._compile(one, line) for one, line in declared]
        self.rules = tuple(rule for rule, _, _ in self._compiled)
        self._forget()

    @property
    def blocking(self) -> list[str]:
        """Conditions that block: what the circuit breaker takes for a change of who is blocked."""
        return [one.when for one in self.rules if one.then is Then.BLOCK and not one.shadow]

    @property
    def told(self) -> str:
        """What the log calls them."""
        acting = sum(not rule.shadow for rule in self.rules)
        return f"rules file of {len(self.rules)}, {acting} of them acting ({self.sha256[:12]}…)"

    def _forget(self) -> None:
        self._asker = Asker(self._env, self.encoding.step_bytes)
        self._by_action: dict[str, Cases] = {}

    def of(self, candidates: Sequence[Candidate], scores: Sequence[float]) -> Ruled:
        """Return which rules hold at scored events."""
        if self._asker.remembered > MAX_REMEMBERED:
            self._forget()
        by_action, ruled = self._by_action, dict[int, tuple[Rule, ...]]()
        for candidate, score in zip(candidates, scores, strict=True) if self.rules else ():
            if not candidate.is_step:
                continue
            cases = by_action.get(candidate.event.action)
            if cases is None:
                cases = self._cases_of(candidate.event.action)
            if cases.asked and (held := self._held(cases, candidate, score)):
                ruled[candidate.offset] = held
        return ruled

    def _cases_of(self, action: str) -> Cases:
        activation = self._env.Activation({ACTION: action})
        asked = [
            Asked(one, action, self._asker) for one in self._compiled if ask(one[1], activation) is not False
        ]
        cases = self._by_action[action] = Cases(asked, self._asker)
        return cases

    def _held(self, cases: Cases, candidate: Candidate, score: float) -> tuple[Rule, ...]:
        amount, gap_ms = self._amount(candidate), candidate.gap_ms
        held, left, known, either = cases.of(candidate.steps, _LACKED[amount is None, gap_ms is None])
        if either is None:
            return held
        exact: dict[str, Any] = {SCORE: score, ACTION_NUMBER: candidate.action_number}
        if amount is not None:
            exact[AMOUNT] = amount
        if gap_ms is not None:
            exact[GAP] = timedelta(milliseconds=gap_ms)
        activation = self._env.Activation({**exact, **known})
        if ask(either, activation) is False:
            return held
        return tuple([rule for rule, program in left if program is None or ask(program, activation) is True])

    def _amount(self, candidate: Candidate) -> float | None:
        fields = candidate.fields
        value = fields[self._amount_at] if len(fields) > self._amount_at else None
        return None if value is None else number(value)

    # The file.

    def _declared(self) -> list[tuple[_Declared, int]]:
        """Return the rules of the file, each with the line that it begins at."""
        try:
            tables = tomllib.loads(self.text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
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
                raise self._refused(f"{error}: {_EXPECTED}", line, name) from error
            if one.name in {other.name for other, _ in found}:
                raise self._refused("there is another of that name: expected each once", line, one.name)
            found.append((one, line))
        return found

    def _compile(self, one: _Declared, line: int) -> Compiled:
        try:
            program = self._env.compile(one.when)
        except RuntimeError as error:
            raise self._refused(*self._reason(str(error), line), one.name) from error
        if (kind := program.return_type().name()) != "BOOL":
            raise self._refused(f"it comes to {kind}: expected true or false", line, one.name)
        words = set(re.findall(r"\w+", one.when))  # which it names, and perhaps more
        names = [each for each in self._variables if words.issuperset(each.name.split("."))]
        if not names and ask(program, self._env.Activation({})) is not True:
            raise self._refused("it never holds: expected a condition on an event", line, one.name)
        for each in names:
            values = dict.fromkeys(value for value in each.values if value is not None)
            answers = [ask(program, self._env.Activation({each.name: value})) for value in values]
            if answers and all(answer is False for answer in answers):
                told = ", ".join(map(as_told, values))
                raise self._refused(
                    f"it never holds, whatever {each.name} is: expected a condition on {told}", line, one.name
                )
        reference = RuleReference(name=one.name, sha256=self.sha256)
        return Rule(reference, one.when, one.then, one.shadow and not self._acts), program, names

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
            reason += "; `python -m detector rules`, given the same --model, lists what there is"
        if "no matching overload" in reason:
            reason += (
                "; numbers have a type: 5000.0 is an amount or a score, 3 a count, duration('90s') a time"
            )
        return f"column {column} of the condition: {reason}", at + int(line) + bool(opens)

    def _refused(self, reason: str, line: int | None = None, name: object = None) -> RulesRefusedError:
        where = f", line {line}" if line else ""
        return RulesRefusedError(
            f"{self._where}{where}{f', rule {name!r}' if name else ''} is refused: {reason}"
        )


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


def load_rules(path: Path, encoding: Encoding, *, acts: bool = False) -> Rules:
    """Load a rules file for a model; see `Rules`.

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
    return Rules(text, encoding, where, acts=acts)
