"""The demo's summary: alerts held against the truth."""

from hypothesis import given
from hypothesis import strategies as st

from demo.summary import Received, summarise
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


TRUTHS = [
    SessionLabel(session_id="n1", label=0, type="normal", actions=4),
    SessionLabel(session_id="n2", label=0, type="normal", actions=5),
    SessionLabel(session_id="q1", label=1, type="quick_drain", actions=4),
    SessionLabel(session_id="q2", label=1, type="quick_drain", actions=4),
    SessionLabel(session_id="p1", label=1, type="password_reset", actions=4),
]


def test_caught_missed_and_false_alarms_are_told_apart() -> None:
    """Every session is counted where it belongs, and only a run without a flaw is called so."""
    summary = summarise(TRUTHS, [received("q1"), received("q1", 3), received("n2", 4), received("p1")])
    assert (summary.sessions, summary.attacks) == (5, 3)
    assert (summary.caught, summary.missed, summary.false_alarms, summary.doubled) == (2, 1, 1, 1)
    assert dict(summary.caught_by_type) == {"quick_drain": 1, "password_reset": 1}
    assert dict(summary.actions_until_block) == {2: 2, 3: 1, 4: 1}
    assert not summary.flawless


def test_a_flawless_run_is_one() -> None:
    """Every attack blocked once and nothing else blocked: the demo's exit code rests on this."""
    summary = summarise(
        TRUTHS, [received("q1", latency_ms=1), received("q2", latency_ms=2), received("p1", latency_ms=3)]
    )
    assert summary.flawless
    assert summary.latency_ms[50] == 2


@given(st.sets(st.sampled_from([truth.session_id for truth in TRUTHS])))
def test_the_figures_add_up(blocked: set[str]) -> None:
    """Caught and missed are all attacks, caught and false alarms all blocked sessions."""
    summary = summarise(TRUTHS, [received(session) for session in blocked])
    assert summary.caught + summary.missed == summary.attacks
    assert summary.caught + summary.false_alarms == len(blocked)


def test_labels_are_read_as_the_simulator_writes_them() -> None:
    """What is written is read again, and a line with more fields than are known is read as well."""
    (simulated,) = seed.sessions(1, 7)
    label = label_of(simulated)
    line = encode_label(label)
    assert labels_of([line], "labels") == {label.session_id: label}
    assert labels_of([line[:-1] + b',"case":"4711"}'], "labels") == {label.session_id: label}
