"""The demo's summary: alerts held against the truth."""

import io
from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from demo.summary import Received, Summary, summarise
from demo.traffic import lives
from demo.view import describe, let_go, table
from detector.contract.alerts import Alert, Decision, ModelReference, SourcePosition
from detector.contract.labels import SessionLabel, encode_label, labels_of
from producer.behaviour import seed
from producer.recording import label_of


def received(session: str, number: int = 2, latency_ms: int = 10) -> Received:
    """Make an alert on a session."""
    alert = Alert(
        alert_id=f"{session}-{number}",
        decision=Decision.BLOCK,
        session_id=session,
        account_id="a",
        score=0.9,
        threshold=0.8,
        action="ADD_RECIPIENT",
        event_id="e",
        action_number=number,
        window=["LOGIN", "ADD_RECIPIENT"],
        model=ModelReference(name="m", version="1", sha256=""),
        source=SourcePosition(topic="t", partition=0, offset=0),
        occurred_at_ms=0,
        received_at_ms=0,
        detected_at_ms=0,
    )
    return Received(alert, latency_ms)


TRUTHS = {
    truth.session_id: truth
    for truth in (
        SessionLabel(session_id="n1", label=0, type="normal", customer_type="business", actions=4),
        SessionLabel(
            session_id="n2", label=0, type="new_recipient_large", customer_type="everyday", actions=3
        ),
        SessionLabel(session_id="q1", label=1, type="quick_drain", actions=4),
        SessionLabel(session_id="q2", label=1, type="quick_drain", actions=4),
        SessionLabel(session_id="p1", label=1, type="password_reset", actions=4),
    )
}
TAKES = ["LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE"]
ACTIONS = dict.fromkeys(TRUTHS, TAKES) | {"n1": ["LOGIN", "VIEW_BALANCE"]}


def summary_of(*alerts: Received, beside: Sequence[Received] | None = None) -> Summary:
    """Summarise a run whose topic holds what it must."""
    others = None if beside is None else [one.alert for one in beside]
    return summarise(TRUTHS, ACTIONS, alerts, [one.alert for one in alerts], others)


def test_caught_missed_and_false_alarms_are_told_apart() -> None:
    """Every session is counted where it belongs, and only a run without a flaw is called so; the warm-up's don't count."""
    summary = summary_of(
        received("q1"), received("q1", 3), received("n2", 4), received("p1"), received("before", 9)
    )
    service = summary.service
    assert (service.caught, service.missed, service.false_alarms, service.doubled) == (2, 1, 1, 1)
    assert dict(service.caught_by_type) == {"quick_drain": 1, "password_reset": 1}
    assert dict(summary.actions_until_block) == {2: 2, 3: 1, 4: 1}
    assert (list(summary.alike), service.alike_blocked) == (["n2"], 1)
    assert not service.flawless


def test_a_flawless_run_is_one() -> None:
    """Every attack blocked once and nothing else blocked: the seed preset's exit code rests on this."""
    summary = summary_of(
        received("q1", latency_ms=1),
        received("q2", latency_ms=2),
        received("p1", latency_ms=3),
        received("before", latency_ms=900),
    )
    assert summary.service.flawless
    assert summary.latency_ms[50] == 2


@given(st.sets(st.sampled_from(list(TRUTHS))))
def test_the_figures_add_up(blocked: set[str]) -> None:
    """Caught and missed are all attacks, caught and false alarms all blocked sessions."""
    service = summary_of(*(received(session) for session in blocked)).service
    assert service.caught + service.missed == 3
    assert service.caught + service.false_alarms == len(service.blocked) == len(blocked)


def test_the_topic_must_hold_what_a_replay_gives() -> None:
    """But for the clock and the order, the alerts are the same, those of the warm-up too; one more, less or else is told."""
    alerts = [received("q1"), received("before")]
    later = [msgspec.structs.replace(one.alert, detected_at_ms=7) for one in reversed(alerts)]
    assert summarise(TRUTHS, ACTIONS, alerts, later, None).as_offline
    other = msgspec.structs.replace(later[0], score=0.91)
    for wrong in (later[:1], [*later, later[0]], [other, later[1]]):
        assert not summarise(TRUTHS, ACTIONS, alerts, wrong, None).as_offline


def test_two_models_stand_side_by_side() -> None:
    """The table has a column for each; who is let go is told with what was done, and what the other model does."""
    summary = summary_of(received("q1"), beside=[received("n2"), received("p1")])
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(summary, lives(10, 1)))
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in console.export_text().splitlines()
        if "│" in line
    ]
    assert ["attackers' sessions blocked", "1 of 3", "1 of 3"] in rows
    assert ["quick_drain", "1 of 2", "0 of 2"] in rows
    assert ["lawful sessions blocked", "0 of 2", "1 of 2"] in rows
    assert ["blocked at action", "1 at 2", ""] in rows
    (told,) = let_go(summary)
    assert "new_recipient_large" in told
    assert "everyday" in told
    assert "notebook's model" in told
    assert told.endswith("LOGIN → ADD_RECIPIENT → TRANSFER_LARGE")


def test_an_alert_is_told_with_the_first_reason_that_speaks_for_it() -> None:
    """What the session is stands beside it, since the demo knows; an alert without reasons has its cause."""
    alert = received("q1")
    because = ["LOGIN: -0.46", "ADD_RECIPIENT 4 s after LOGIN, device never seen: +0.40", "LOGOUT: +0.01"]
    explained = Received(msgspec.structs.replace(alert.alert, explanation=because), 12)
    line, why = describe(explained, TRUTHS["q1"]).splitlines()
    assert "quick_drain" in line
    assert "an attack" in line
    assert why.strip() == because[1]
    assert describe(alert, TRUTHS["n1"]).splitlines()[1].strip() == "score"


def test_labels_are_read_as_the_simulator_writes_them() -> None:
    """What is written is read again, and a line with more fields than are known is read as well."""
    (simulated,) = seed.sessions(1, 7)
    label = label_of(simulated)
    line = encode_label(label)
    assert labels_of([line], "labels") == {label.session_id: label}
    assert labels_of([line[:-1] + b',"case":"4711"}'], "labels") == {label.session_id: label}
