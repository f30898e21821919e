"""Rules beside the model: what follows where one holds, in shadow or not, and that it depends on the log alone."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.contract.actions import STEP_UP_ACTIONS
from detector.contract.alerts import Alert, encode_alert
from detector.contract.listings import AccountListing, Listing
from detector.core.breaker import BreakerLimits
from detector.core.decision import Policy, Suppression
from detector.core.memo import ScoreMemo
from detector.core.partition import Partition
from detector.core.pipeline import Outcome, Share
from detector.core.shadowing import Challenger
from detector.core.staging import Entry
from detector.model.rules import Rules
from tests.core.guarded import LIMITS, Log, event, events
from tests.core.guarded import score as by_action
from tests.core.strategies import ENCODING, GUARDED, MODEL, SIGNALLED, SOURCE, pipeline, score
from tests.core.test_all_rules import crowded, told

LOOK, SMALL, LARGE = "VIEW_BALANCE", "TRANSFER_SMALL", "TRANSFER_LARGE"
"""Scored 0.1, 0.5 and 0.9."""
PASSED, FAILED = STEP_UP_ACTIONS
POLICY = Policy(0.8, MODEL, review_threshold=0.45, step_ups=STEP_UP_ACTIONS)
MIXED = """
[[rule]]
name = "on trial"
when = 'score > 0.7 && events.count >= 1'
then = "BLOCK"

[[rule]]
name = "allowed"
when = 'device.novelty == "known" && gap > duration("20s")'
then = "ALLOW"
shadow = false

[[rule]]
name = "new device"
when = 'device.novelty == "never" || amount > 1000.0'
then = "CHALLENGE"
shadow = false

[[rule]]
name = "pace"
when = 'gap < duration("1s") && action != "LOGIN" && action_number > 2'
then = "BLOCK"
shadow = false

[[rule]]
name = "seldom"
when = 'other_device.change && score > 0.4'
then = "REVIEW"
"""
ACTING, IN_SHADOW = Rules(MIXED, SIGNALLED), Rules(MIXED.replace("false", "true"), SIGNALLED)


def rules_of(*rules: tuple[str, str, str], shadow: bool = False) -> Rules:
    """Return rules of names, conditions and what follows."""
    tables = (
        f"[[rule]]\nname = '{name}'\nwhen = '''{when}'''\nthen = '{then}'\nshadow = {str(shadow).lower()}\n"
        for name, when, then in rules
    )
    return Rules("".join(tables), ENCODING)


def read(rules: Rules, *log: Sequence[object], policy: Policy = POLICY) -> Outcome:
    """Decide on a log, by scores of the last action and rules."""
    entries = [Entry(at, 0, one) for at, one in enumerate(one for part in log for one in part)]  # type: ignore[arg-type]
    runs = pipeline(by_action, policy=policy, limits=LIMITS, rules=rules.of)
    return runs.run([Share(SOURCE, Partition(), entries, len(entries))])[0]


def decided(rules: Rules, *log: Sequence[object], policy: Policy = POLICY) -> list[tuple[str, str, str]]:
    """Return decision, cause and rule of each alert."""
    return [
        (one.decision.value, one.cause.value, "" if one.rule is msgspec.UNSET else one.rule.name)
        for one in read(rules, *log, policy=policy).alerts
    ]


@settings(max_examples=100)
@given(crowded(), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_any_cut_into_batches_gives_the_same(log: list[Entry], one: int, other: int, tries: bool) -> None:  # noqa: FBT001
    """Alerts, those in shadow, counts and breaker are those of the log, with rules of every kind beside all guard rails."""
    challenger = Challenger(Policy(0.5, MODEL), ScoreMemo(SIGNALLED, score)) if tries else None
    found = []
    for batch_entries in (one, other):
        runs = pipeline(encoding=SIGNALLED, rules=ACTING.of, challenger=challenger)
        partition = Partition()
        outcomes = list(runs.over(partition, log, SOURCE, batch_entries))
        matches = sum((outcome.matches for outcome in outcomes), outcomes[0].matches.__class__())
        found.append((told(outcomes), matches, partition.breaker))
    assert found[0] == found[1]


@settings(max_examples=100)
@given(crowded(), st.integers(1, 40))
def test_rules_in_shadow_change_nothing_that_is_decided(log: list[Entry], batch_entries: int) -> None:
    """Alerts, profiles and breaker are, bit for bit, what they are without; of a session it is told once."""
    partitions, runs = [], []
    for asked in (None, IN_SHADOW.of):
        partitions.append(Partition())
        made = pipeline(encoding=SIGNALLED, rules=asked)
        runs.append(list(made.over(partitions[-1], log, SOURCE, batch_entries)))
    without, with_ = ([encode_alert(one) for each in run for one in each.alerts] for run in runs)
    assert without == with_
    assert partitions[0].profiles == partitions[1].profiles
    assert partitions[0].breaker == partitions[1].breaker
    assert not any(each.shadow_alerts for each in runs[0])


@settings(max_examples=100)
@given(crowded())
def test_no_rules_are_an_empty_file(log: list[Entry]) -> None:
    """What comes of a log is, bit for bit, what came of it before there were rules."""
    plain = pipeline(encoding=SIGNALLED)
    empty = replace(plain, rules=Rules("", SIGNALLED).of)
    assert told(list(empty.over(Partition(), log, SOURCE))) == told(
        list(plain.over(Partition(), log, SOURCE))
    )


@pytest.mark.parametrize(
    ("rules", "actions", "expected"),
    [
        ([("r", "score > 0.05", "CHALLENGE")], ["LOGIN", LOOK, LOOK], [("CHALLENGE", "rule", "r")]),
        ([("r", "score > 0.05", "REVIEW")], [SMALL], [("REVIEW", "score", "")]),  # alike: the score's
        ([("r", "score > 0.05", "CHALLENGE")], [SMALL], [("CHALLENGE", "rule", "r")]),  # the graver one
        ([("r", "score > 0.05", "CHALLENGE")], [LARGE], [("BLOCK", "score", "")]),
        ([("r", "true", "BLOCK")], ["LOGIN", LOOK], [("BLOCK", "rule", "r")]),
        (
            [("first", "score > 0.4", "REVIEW"), ("second", "score > 0.05", "BLOCK")],
            [SMALL, LOOK],
            [
                ("REVIEW", "score", ""),
                ("BLOCK", "rule", "second"),
            ],  # the first that holds, in the file's order
        ),
        ([("r", "score > 0.4", "ALLOW")], [SMALL, LARGE], []),
        ([("a", f'action == "{SMALL}"', "ALLOW"), ("b", "true", "BLOCK")], [SMALL, SMALL], []),
        ([("r", f'action == "{LOOK}"', "CHALLENGE")], [LOOK, PASSED, LOOK], [("CHALLENGE", "rule", "r")]),
        (
            [("r", f'action == "{LOOK}"', "CHALLENGE")],
            [LOOK, FAILED],
            [("CHALLENGE", "rule", "r"), ("BLOCK", "step_up_failed", "")],
        ),
        (
            [("r", "action_number == 2", "BLOCK")],
            [LOOK, LOOK, "LOGOUT", LOOK, LOOK],
            2 * [("BLOCK", "rule", "r")],
        ),
    ],
)
def test_what_follows_where_a_rule_holds(
    rules: list[tuple[str, str, str]], actions: list[str], expected: list[tuple[str, str, str]]
) -> None:
    """The graver of the score's decision and that of the first rule that holds; once a session; ALLOW keeps both back."""
    assert decided(rules_of(*rules), events("s", *actions)) == expected


def test_what_a_rule_keeps_back_is_counted() -> None:
    """A wave of false alarms that a rule allows is seen in the figures; where nothing would come, nothing is kept back."""
    outcome = read(rules_of(("r", "true", "ALLOW")), events("s", LOOK, SMALL, LARGE))
    assert (outcome.alerts, outcome.suppressed) == ([], {Suppression.ALLOWED_BY_RULE: 2})
    assert {rule.reference.name: count for rule, count in outcome.matches.items()} == {"r": 3}


def test_an_alert_names_its_rule_and_says_it() -> None:
    """With the file's hash, and the condition as its reason: the model has none to give."""
    rules = rules_of(("look twice", f'action == "{LOOK}"\n  && score < 0.2', "CHALLENGE"))
    (alert,) = read(rules, events("s", LOOK)).alerts
    assert alert.rule == msgspec.convert({"name": "look twice", "sha256": rules.sha256}, type(alert.rule))
    assert alert.explanation == [f'rule look twice: action == "{LOOK}" && score < 0.2']
    assert alert.score == pytest.approx(0.1)
    assert alert.threshold == 0.8
    assert alert.scores == []


def test_lists_stand_above_rules() -> None:
    """An operator's word on an account is on that account; a rule is on all."""
    blocking, allowing = rules_of(("r", "true", "BLOCK")), rules_of(("r", "true", "ALLOW"))
    allowed: list[object] = [AccountListing(account_id="account-s", listing=Listing.ALLOW)]
    denied: list[object] = [AccountListing(account_id="account-s", listing=Listing.DENY)]
    outcome = read(blocking, allowed, events("s", LOOK))
    assert (outcome.alerts, outcome.suppressed) == ([], {Suppression.ALLOW_LIST: 1})
    assert decided(allowing, denied, events("s", LOOK)) == [("BLOCK", "deny_list", "")]


def test_a_rule_that_blocks_everybody_is_held_back_as_a_bad_model_is() -> None:
    """New rules are on probation: after some sessions their blocks are challenges, with the breaker's cause and the rule."""
    guarded = replace(POLICY, breaker=BreakerLimits(0.25, 100, 600_000, 500), epoch=b"with rules")
    log = [event(f"s{number}", LOOK, at_ms=2_000 * number) for number in range(100)]
    found = decided(rules_of(("r", "true", "BLOCK")), log, policy=guarded)
    blocks = found.count(("BLOCK", "rule", "r"))
    assert 5 <= blocks <= 12
    assert found[blocks:] == [("CHALLENGE", "circuit_breaker", "r")] * (100 - blocks)
    (alert,) = read(rules_of(("r", "true", "BLOCK")), log[-1:], policy=POLICY).alerts
    assert alert.explanation == ["rule r: true"]
    held = read(rules_of(("r", "true", "BLOCK")), log, policy=guarded).alerts[-1]
    assert held.explanation == ["challenge instead of block: the circuit breaker is open", "rule r: true"]


def test_a_rule_in_shadow_tells_once_of_a_session_and_is_counted_each_time() -> None:
    """Of the first event at which one holds, by the first of them; again once the session began anew; ALLOW only counts."""
    rules = rules_of(
        ("kind", "true", "ALLOW"),
        ("first", f'action == "{LOOK}"', "CHALLENGE"),
        ("second", "score >= 0.1 || score < 0.1", "BLOCK"),
        shadow=True,
    )
    outcome = read(rules, events("s", LOOK, LOOK, "LOGOUT", "LOGIN", LOOK))
    assert outcome.alerts == []
    told_of = [(one.decision.value, _rule(one), one.source.offset) for one in outcome.shadow_alerts]
    assert told_of == [("CHALLENGE", "first", 0), ("BLOCK", "second", 3)]
    assert {rule.reference.name: count for rule, count in outcome.matches.items()} == {
        "kind": 5,
        "first": 3,
        "second": 5,
    }


def _rule(alert: Alert) -> str:
    return "" if alert.rule is msgspec.UNSET else alert.rule.name


def test_a_change_of_who_is_blocked_is_a_change_for_the_breaker() -> None:
    """Rules that block make another epoch, and so a probation; those in shadow, or that only ask or allow, make none."""
    from detector.runtime.config import DetectorConfig  # noqa: PLC0415  the core knows no settings

    config = DetectorConfig()
    plain = config.policy(0.5, MODEL).epoch
    for then, shadow, changes in (
        ("BLOCK", False, True),
        ("BLOCK", True, False),
        ("CHALLENGE", False, False),
    ):
        blocking = rules_of(("r", "true", then), shadow=shadow).blocking
        assert (config.policy(0.5, MODEL, None, blocking).epoch != plain) is changes
    assert Log(GUARDED).read(events("s", LOOK)).matches == {}
