"""Rules files: what conditions may name and what they mean, which files are refused, and that shortcuts change nothing."""

import builtins
from datetime import timedelta
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest
from cel_expr_python import cel
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.contract.events import SessionEvent
from detector.core.encoding import Encoding
from detector.core.signals import ABSENT, FIRST, UNKNOWN, Kind, Signal
from detector.core.staging import Candidate
from detector.model.rules import MAX_BYTES, MAX_RULES, Rules, RulesRefusedError, load_rules
from detector.model.variables import variables_of
from tests.core.strategies import ACTIONS, ENCODING, FIELDS, SIGNALLED

CONDITIONS = (
    'action == "TRANSFER_LARGE" && device.novelty == "never"',
    'device.novelty == "no history" || channel.level == "other"',
    '!(device.novelty == "known") && score >= 0.5',
    "device.known_for < duration('90s') && gap > duration('1s')",
    "amount > 100.0",
    "!(amount > 100.0)",
    "amount.magnitude >= 10.0 && unusual_amount.deviation < 1.0",
    "pace.deviation >= 0.0 || action_number > 3",
    "other_device.change",
    "!other_device.change && score < 0.9",
    "since_a_password_or_money.since > duration('60s')",
    "events.count >= 3 ? score > 0.2 : action.startsWith('TRANSFER')",
    "hour.habit < 0.1 || (gap < duration('5s') && amount < 10.0)",
    "[score, 0.3].exists(x, x > 0.7)",
    "action in ['LOGIN', 'LOGOUT'] // of no weight",
    "1 / (action_number - 2) > 0",
    "true",
)
ALL = "".join(
    f"[[rule]]\nname = '{at}'\nthen = 'REVIEW'\nwhen = '''{one}'''\n" for at, one in enumerate(CONDITIONS)
)


def candidate(
    codes: bytes,
    action: str = "TRANSFER_LARGE",
    fields: tuple[Any, ...] = (None, None, None),
    gap_ms: int | None = 1_000,
    number: int = 2,
    encoding: Encoding = SIGNALLED,
) -> Candidate:
    """Return an event of a step with these codes of its signals."""
    event = SessionEvent(event_id="e", session_id="s", account_id="a", action=action, occurred_at_ms=0)
    steps = encoding.step("LOGIN", None) + encoding.step(action, gap_ms, codes or None)
    return Candidate(7, 0, event, number, steps, 0, None, 0, "s", None, True, gap_ms, fields)  # noqa: FBT003


def rules_of(*conditions: str, encoding: Encoding = SIGNALLED) -> Rules:
    """Return rules with these conditions, named by their numbers."""
    tables = (
        f"[[rule]]\nname = '{at}'\nthen = 'REVIEW'\nwhen = '''{one}'''\n" for at, one in enumerate(conditions)
    )
    return Rules("".join(tables), encoding)


def holds(condition: str, one: Candidate, score: float = 0.5, encoding: Encoding = SIGNALLED) -> bool:
    """Tell whether a condition holds at an event."""
    return bool(rules_of(condition, encoding=encoding).of([one], [score]))


def codes(**named: int) -> bytes:
    """Return codes of the signals, by the names of variables; those that are not named are absent."""
    variables = {one.name.partition(".")[0]: one.signal for one in variables_of(SIGNALLED)}
    found = bytearray(SIGNALLED.signals.unread)
    for name, code in named.items():
        found[variables[name] or 0] = code
    return bytes(found)


PLAIN = Rules(ALL, SIGNALLED)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.tuples(*(st.integers(1, most - 1) for most in SIGNALLED.signals.codes)),
            st.sampled_from(ACTIONS),
            FIELDS,
            st.sampled_from([None, 0, 1_000, 4_999, 60_001]),
            st.integers(1, 5),
            st.sampled_from([0.0, 0.25, 0.5, 0.71, 0.95, 1.0]),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_what_is_told_once_is_what_each_condition_says_of_the_event(drawn: list[Any]) -> None:
    """A rule holds where CEL, given all that is known of the event and nothing else, says true: whatever was asked before."""
    types = {"string": cel.Type.STRING, "double": cel.Type.DOUBLE, "duration": cel.Type.DURATION}
    types |= {"int": cel.Type.INT, "bool": cel.Type.BOOL}
    variables = variables_of(SIGNALLED)
    environment = cel.NewEnv(variables={one.name: types[one.type] for one in variables})
    asked = [
        candidate(bytes(one), action, fields, gap, number) for one, action, fields, gap, number, _ in drawn
    ]
    asked = [one._replace(offset=at) for at, one in enumerate(asked)]
    scores = [one[-1] for one in drawn]
    found = PLAIN.of(asked, scores)
    for one, score, (of_signals, *_) in zip(asked, scores, drawn, strict=True):
        amounts: dict[Any, Any] = {"900.00": 900.0, "much": None}
        known: dict[str, Any] = {
            "action": one.event.action,
            "score": score,
            "action_number": one.action_number,
            "gap": None if one.gap_ms is None else timedelta(milliseconds=one.gap_ms),
            "amount": amounts.get(one.fields[1], one.fields[1]),
        } | {each.name: each.values[of_signals[each.signal]] for each in variables if each.signal is not None}
        activation = environment.Activation(
            {name: value for name, value in known.items() if value is not None}
        )
        expected = [
            str(at)
            for at, condition in enumerate(CONDITIONS)
            if environment.compile(condition).eval(activation).value() is True
        ]
        assert [rule.reference.name for rule in found.get(one.offset, ())] == expected


@pytest.mark.parametrize(
    ("condition", "named", "expected"),
    [
        ('device.novelty == "never"', {"device": FIRST}, True),
        ('device.novelty == "no history"', {"device": UNKNOWN}, True),
        ('device.novelty != "never"', {"device": ABSENT}, False),  # no device: nothing is known of it
        ('!(device.novelty == "never")', {"device": ABSENT}, False),
        ('device.known_for < duration("10m")', {"device": FIRST + 1}, True),
        ('device.known_for < duration("10m")', {"device": FIRST + 2}, True),
        ('device.known_for < duration("10m")', {"device": FIRST + 3}, False),
        ('device.known_for < duration("10m")', {"device": FIRST}, False),  # never
        ('channel.level == "web"', {"channel": FIRST}, True),
        ('channel.level == "other"', {"channel": FIRST + 2}, True),
        ("unusual_amount.deviation >= 3.0", {"unusual_amount": FIRST + 3}, True),
        ("unusual_amount.deviation >= 3.0", {"unusual_amount": FIRST + 2}, False),
        ("unusual_amount.deviation < -1.0", {"unusual_amount": FIRST}, True),
        ("unusual_amount.deviation < -1.0", {"unusual_amount": UNKNOWN}, False),
        (
            "since_session.since > duration('720h')",
            {"since_session": UNKNOWN},
            True,
        ),  # never: longer than all
        ("since_session.since < duration('1m')", {"since_session": FIRST + 1}, True),
        ("events.count == 3", {"events": FIRST + 2}, True),  # from 2.5: told as 3 or more
        ("other_device.change", {"other_device": FIRST + 1}, True),
        ("!other_device.change", {"other_device": FIRST}, True),
        ("!other_device.change", {"other_device": UNKNOWN}, False),
    ],
)
def test_signals_are_told_as_an_analyst_says_them(
    condition: str,
    named: dict[str, int],
    expected: bool,  # noqa: FBT001
) -> None:
    """By their kinds; between bounds it is the lower one; and what is not known is neither so nor otherwise."""
    assert holds(condition, candidate(codes(**named))) is expected


def test_what_only_the_event_has_is_told_exactly() -> None:
    """Gap, amount, score and number are those of the event, not of a bucket; an amount may be a text, or absent."""
    one = candidate(b"", gap_ms=1_001, fields=(None, "900.50", None), number=3)
    assert holds("gap == duration('1001ms') && amount == 900.5 && action_number == 3 && score == 0.5", one)
    assert not holds("gap >= duration('0s')", one._replace(gap_ms=None))
    assert not holds("amount >= 0.0 || amount < 0.0", one._replace(fields=(None, "much", None)))


def test_rules_work_under_a_model_without_signals() -> None:
    """Amount and gap are read all the same."""
    one = candidate(b"", fields=(12.5,), encoding=ENCODING)
    assert holds("amount > 12.0 && gap == duration('1s')", one, encoding=ENCODING)
    assert Rules(ALL.partition("[[rule]]")[0], ENCODING).reader.read(b'{"amount": 3}') == (3,)


def test_a_step_that_is_none_is_asked_of_no_rule() -> None:
    """What came of a second factor in an action that the model does not know is no action of the session's."""
    assert rules_of("true").of([candidate(b"")._replace(is_step=False)], [0.5]) == {}


def test_any_number_of_actions_and_codes_is_remembered_in_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Actions that no model knows, under a model with a token for them, fill nothing; nor do signals' codes of one action."""
    most = 500
    monkeypatch.setattr("detector.model.rules.MAX_REMEMBERED", most)
    unknown = Encoding(ACTIONS, window=4, unknown_token=True)
    rules = rules_of('action.startsWith("A9")', encoding=unknown)
    rules.of([candidate(b"", f"A{at}", encoding=unknown) for at in range(most)], [0.5] * most)
    found = rules.of([candidate(b"", "A9", encoding=unknown)], [0.5])
    assert (len(found), len(rules._by_action)) == (1, 1)
    rules = rules_of("score > 0.5 && events.count > 0 && pace.deviation > 0.0 && amount.magnitude > 0.0")
    every = product(*(range(1, codes) for codes in SIGNALLED.signals.codes))
    for _ in range(5):
        rules.of([candidate(bytes(one)) for one in islice(every, most)], [0.5] * most)
        assert rules._asker.remembered <= 3 * most


LOOPS = "[{0}].exists(a, [{0}].exists(b, [{0}].exists(c, score < 0.0)))".format(", ".join(["1"] * 30))
DEEPEST = f"score{30 * ' + score'} > 1.0"


@pytest.mark.parametrize(
    ("conditions", "held"),
    [
        ((LOOPS, "score > 0.2"), ["1"]),
        ((f"score > 0.9 || {LOOPS}", f"score > 0.2 || {LOOPS}"), ["1"]),
        ((LOOPS.replace("score < 0.0", 'action == ""'), "score > 0.2"), ["1"]),
        ((DEEPEST,) * 5, ["0", "1", "2", "3", "4"]),
    ],
    ids=["loops", "what a part of it tells", "loops at once", "as deep as may be"],
)
def test_what_can_not_be_told_makes_no_event_fail(conditions: tuple[str, ...], held: list[str]) -> None:
    """A condition that loops for longer than CEL allows does not hold, and others beside it do; so with the deepest ones."""
    found = rules_of(*conditions).of([candidate(codes())], [0.5])
    assert [rule.reference.name for rules in found.values() for rule in rules] == held


RULE = """# tonight
[[rule]]
name = "first"
when = 'action == "LOGIN"'
then = "REVIEW"

[[rule]]
name = "second"
when = '''
score > 0.5 &&
gap < duration("2s")
'''
then = "BLOCK"
shadow = false
"""


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        ("score", "scor", ["line 10, rule 'second'", "column 1 of", "undeclared reference to 'scor'"]),
        ("gap <", "gap <<", ["line 11, rule 'second'", "Syntax error"]),
        ("0.5", "1", ["line 10, rule 'second'", "no matching overload", "(double, int)", "5000.0"]),
        ('"LOGIN"', "3", ["line 4, rule 'first'", "no matching overload"]),
        ("action ==", "device.novelty ==", ["line 4, rule 'first'", "'device.novelty'", "detector rules"]),
        ('action == "LOGIN"\'', "score + 1.0'", ["line 2, rule 'first'", "comes to DOUBLE"]),
        ('"LOGIN"', '"LOGN"', ["line 2, rule 'first'", "never holds, whatever action is", '"LOGIN"']),
        ('"REVIEW"', '"REVEW"', ["line 2, rule 'first'", "'REVEW'", "$.then", "one of BLOCK, CHALLENGE"]),
        ('"second"', '"first"', ["line 7, rule 'first'", "another of that name"]),
        ('"second"', '"a\\nb"', ["line 7", "$.name"]),
        ("shadow", "shadw", ["line 7, rule 'second'", "unknown field `shadw`", "perhaps shadow"]),
        ("when = 'action", "what = 'action", ["line 2, rule 'first'", "unknown field `what`"]),
        ("# tonight", "[rules]", ["it has rules", "[[rule]]"]),
        ("# tonight", "rule = 3", ["is refused"]),
        ("# tonight", f"rule = {'[' * 20_000}", ["is refused", "expected TOML"]),
        ('"first"', '"first\\n"', ["line 2", "$.name"]),
        ("shadow = false", "shadow = no", ["line 14", "expected TOML"]),
        ("# tonight", "[[rule]]\n" * (MAX_RULES + 1), [f"expected up to {MAX_RULES} [[rule]]"]),
        ("# tonight", f"# {MAX_BYTES * 'x'}", ["bytes"]),
        ("# tonight", "# \udcff", ["UTF-8"]),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_rule_line_and_reason(
    tmp_path: Path, before: str, after: str, reasons: list[str]
) -> None:
    """By type, by value and by name: before anything is decided by it."""
    path = tmp_path / "rules.toml"
    path.write_bytes(RULE.encode())
    assert [rule.then.value for rule in load_rules(path, ENCODING).rules] == ["REVIEW", "BLOCK"]
    assert before in RULE
    path.write_bytes(RULE.replace(before, after, 1).encode(errors="surrogateescape"))
    with pytest.raises(RulesRefusedError) as refused:
        load_rules(path, ENCODING)
    for reason in [str(path), *reasons]:
        assert reason in str(refused.value)


@pytest.mark.parametrize(
    "condition",
    [
        "false",
        "1 / 0 > 0",
        'device.novelty == "nver"',
        "score > 0.1 && unusual_amount.deviation > 20.0",  # no bound is so high
        "events.count > 7 && action == 'LOGIN'",
        'channel.level == "web" && channel.level == "app"',
        'other_device.change && !(other_device.change || action == "LOGIN")',
    ],
)
def test_a_condition_that_can_never_hold_is_refused(condition: str) -> None:
    """A word that a signal never says, or a number beyond its bounds, would be silence that looks like peace."""
    with pytest.raises(RulesRefusedError, match="never holds"):
        rules_of(condition)


def test_an_action_beyond_the_vocabulary_may_be_named_where_there_is_a_token() -> None:
    """Such a model scores it, so that a rule may name it."""
    unknown = Encoding(ACTIONS, window=4, unknown_token=True)
    assert holds('action == "SCRATCH"', candidate(b"", "SCRATCH", encoding=unknown), encoding=unknown)


def test_a_rule_is_in_shadow_unless_it_says_otherwise() -> None:
    """Whoever forgets to say it harms nobody."""
    assert [rule.shadow for rule in Rules(RULE, ENCODING).rules] == [True, False]
    assert Rules(RULE, ENCODING).blocking == ['score > 0.5 &&\ngap < duration("2s")\n']


def test_names_of_signals_become_names_that_cel_takes() -> None:
    """Whatever a model calls its signals, each can be named, and no two are called the same."""
    named = [
        Signal(name=name, kind=Kind.LEVEL, of="attributes.x", values=("a",))
        for name in ("in", "2nd", "a b", "a_b", "a-b", "größe", "_")
    ]
    encoding = Encoding(ACTIONS, window=4, signals=named)
    names = [one.name for one in variables_of(encoding) if one.signal is not None]
    assert len(set(names)) == len(named)
    for at, name in enumerate(names):
        one = bytearray([ABSENT] * len(named))
        one[at] = FIRST
        assert holds(f'{name} == "a"', candidate(bytes(one), encoding=encoding), encoding=encoding)


def test_no_library_is_needed_without_rules_and_named_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the extra runs, and says what to install once there are rules."""
    imported = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("cel_expr_python"):
            raise ImportError(name)
        return imported(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert Rules("# none\n", ENCODING).of([candidate(b"", encoding=ENCODING)], [0.5]) == {}
    with pytest.raises(RulesRefusedError, match=r"extra 'rules'"):
        Rules(RULE, ENCODING)
