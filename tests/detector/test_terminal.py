"""Ids come from anybody who may write events: what is printed of them can't command a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from detector.cli import describe
from detector.contract.alerts import Alert, Decision, ModelReference, SourcePosition
from detector.terminal import printable


@given(st.text())
def test_nothing_unseen_reaches_the_terminal(text: str) -> None:
    """Whatever the text, surrogates included: all that is printed can be seen, and what could be seen stays."""
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    if text.isprintable():
        assert shown == text


def test_an_alert_is_one_line_whatever_its_ids_hold() -> None:
    """A session's id that would clear the screen and write a line of its own is shown for what it is."""
    hostile = "\x1b[2J\rALLOWED session nobody\n"
    alert = Alert(
        alert_id="a1",
        decision=Decision.BLOCK,
        session_id=hostile,
        account_id="a1",
        score=0.9,
        threshold=0.8,
        action="TRANSFER_LARGE",
        event_id="e1",
        action_number=1,
        window=["TRANSFER_LARGE"],
        model=ModelReference(name="m", version="1", sha256="0"),
        source=SourcePosition(topic="t", partition=0, offset=0),
        occurred_at_ms=0,
        received_at_ms=0,
        detected_at_ms=0,
    )
    line = describe(alert)
    assert line.isprintable()
    assert r"\x1b[2J\rALLOWED session nobody\n" in line
