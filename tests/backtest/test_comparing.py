"""The difference between two models: every session is counted once, on the side where it belongs."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from detector.backtest.comparing import Blocked, compare, first_blocks
from detector.contract.alerts import Alert, Decision, ModelReference, SourcePosition
from detector.contract.labels import SessionLabel

SESSIONS = [f"s{number}" for number in range(8)]
BLOCKS = st.dictionaries(st.sampled_from(SESSIONS), st.integers(1, 9)).map(
    lambda drawn: {
        session: Blocked(
            session_id=session, account_id="a", action="TRANSFER_LARGE", action_number=number, score=0.9
        )
        for session, number in drawn.items()
    }
)
LABELS = st.dictionaries(
    st.sampled_from(SESSIONS), st.tuples(st.integers(0, 1), st.sampled_from(["drain", "browse"]))
).map(
    lambda drawn: {
        session: SessionLabel(session_id=session, label=label, type=kind)
        for session, (label, kind) in drawn.items()
    }
)


ASKED = st.tuples(st.sets(st.sampled_from(SESSIONS)), st.sets(st.sampled_from(SESSIONS)))


@given(BLOCKS, BLOCKS, LABELS, ASKED)
def test_each_session_is_counted_once(
    first: dict[str, Blocked],
    second: dict[str, Blocked],
    labels: dict[str, SessionLabel],
    asked: tuple[set[str], set[str]],
) -> None:
    """Blocks, challenges and differences of all groups add up to what was given, and labels to their sessions."""
    found = compare(first, second, labels, asked)
    for side in (0, 1):
        assert sum(group.challenged[side] for group in found.groups) == len(asked[side])
    for total in found.totals:
        known = {session for session, label in labels.items() if label.label == total.label}
        assert total.challenged == (len(known & asked[0]), len(known & asked[1]))
    assert sum(group.blocked[0] for group in found.groups) == len(first)
    assert sum(group.blocked[1] for group in found.groups) == len(second)
    assert {one.session_id for one in found.newly} == second.keys() - first.keys()
    assert {one.session_id for one in found.no_longer} == first.keys() - second.keys()
    assert sum(group.newly for group in found.groups) == len(found.newly)
    assert sum(group.no_longer for group in found.groups) == len(found.no_longer)
    assert sum(group.sessions or 0 for group in found.groups) == len(labels)
    both = first.keys() & second.keys()
    assert sum(group.earlier for group in found.groups) == sum(
        second[one].action_number < first[one].action_number for one in both
    )


def test_sessions_whose_kind_the_labels_do_not_say_go_by_their_label() -> None:
    """They are attacks or lawful; without a label are those alone that the label file does not have."""
    labels = {f"s{label}": SessionLabel(session_id=f"s{label}", label=label) for label in (0, 1)}
    block = Blocked(session_id="s2", account_id="a", action="PAY", action_number=1, score=0.9)
    found = compare({}, dict.fromkeys(("s0", "s1", "s2"), block), labels)
    assert [(one.name, one.label) for one in found.groups] == [
        ("attack", 1),
        ("lawful", 0),
        ("unlabelled", None),
    ]


@given(BLOCKS, BLOCKS, LABELS)
def test_the_other_way_round_is_the_mirror_image(
    first: dict[str, Blocked], second: dict[str, Blocked], labels: dict[str, SessionLabel]
) -> None:
    """What one model newly blocks against the other, the other no longer blocks against the one."""
    there, back = compare(first, second, labels), compare(second, first, labels)
    assert _ids(there.newly) == _ids(back.no_longer)
    assert _ids(there.no_longer) == _ids(back.newly)
    assert [(one.name, one.earlier) for one in there.groups] == [(one.name, one.later) for one in back.groups]


@given(BLOCKS, BLOCKS, LABELS)
def test_what_speaks_against_the_change_comes_first(
    first: dict[str, Blocked], second: dict[str, Blocked], labels: dict[str, SessionLabel]
) -> None:
    """Lawful sessions newly blocked, attacks no longer blocked, and at the end those that nobody labelled."""
    found = compare(first, second, labels)
    for blocks, order in ((found.newly, [0, 1, None]), (found.no_longer, [1, 0, None])):
        ranks = [order.index(one.label) for one in blocks]
        assert ranks == sorted(ranks)
    assert all(
        (one.type, one.label) == (labels[one.session_id].type, labels[one.session_id].label)
        if one.session_id in labels
        else one.label is None
        for one in found.newly + found.no_longer
    )


@given(BLOCKS, BLOCKS, LABELS)
def test_totals_are_the_sums_of_their_groups(
    first: dict[str, Blocked], second: dict[str, Blocked], labels: dict[str, SessionLabel]
) -> None:
    """One for each label that a session has, with what its sessions come to."""
    found = compare(first, second, labels)
    assert {total.label for total in found.totals} == {label.label for label in labels.values()}
    for total in found.totals:
        known = {session for session, label in labels.items() if label.label == total.label}
        assert total.sessions == len(known)
        assert total.blocked == (len(known & first.keys()), len(known & second.keys()))
        assert total.newly == len(known & second.keys() - first.keys())
        assert total.no_longer == len(known & first.keys() - second.keys())


def _ids(blocks: Iterable[Blocked]) -> set[str]:
    return {block.session_id for block in blocks}


def test_a_session_counts_by_its_first_block() -> None:
    """A session id that comes back and is blocked again is one session, blocked where it was first."""
    alerts = [alert(number) for number in (3, 5)]
    assert first_blocks(alerts, lambda alert: alert.session_id)["s1"].action_number == 3


def alert(action_number: int) -> Alert:
    """Make an alert."""
    return Alert(
        alert_id=f"a{action_number}",
        decision=Decision.BLOCK,
        session_id="s1",
        account_id="a1",
        score=0.9,
        threshold=0.8,
        action="TRANSFER_LARGE",
        event_id="e1",
        action_number=action_number,
        window=["TRANSFER_LARGE"],
        model=ModelReference(name="m", version="1", sha256="0"),
        source=SourcePosition(topic="t", partition=0, offset=0),
        occurred_at_ms=0,
        received_at_ms=0,
        detected_at_ms=0,
    )
