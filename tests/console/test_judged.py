"""The verdicts that are kept: bounded, the last ones of a session, and those on alerts for as long as these are."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from detector.console.judged import MOST_OF_A_SESSION, Judged
from detector.contract.verdicts import Finding, Verdict
from tests.console.alerts import NOW_MS, alert
from tests.console.test_board import board_of, found, read


def verdict(session: int, number: int, decided_at_ms: int = NOW_MS) -> Verdict:
    """Return a verdict on a session, with an id of its own."""
    return Verdict(
        verdict_id=str(number),
        account_id="a",
        session_id=str(session),
        verdict=Finding.FRAUD,
        by="x",
        decided_at_ms=decided_at_ms,
    )


arriving = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.integers(0, 40)), max_size=80)


@given(arriving, st.integers(1, 6), st.sets(st.integers(0, 30)))
def test_what_holds_on_a_needed_session_is_kept(
    came: list[tuple[int, int, int]], keep: int, wanted: set[int]
) -> None:
    """Whatever comes: of each needed session the last by the time of decision, and of those the last to come; all bounded."""
    needed = {("a", str(one)) for one in sorted(wanted)[:keep]}
    judged = Judged(2 * keep, lambda session: session in needed)
    holding: dict[str, Verdict] = {}
    seen = set()
    for number, (session, at_ms, id_number) in enumerate(came, 1):
        one = verdict(session, 100 * session + id_number, at_ms)
        judged.add(one, number)
        if one.verdict_id not in seen and ("a", one.session_id) in needed:
            seen.add(one.verdict_id)
            if one.session_id not in holding or holding[one.session_id].decided_at_ms <= at_ms:
                holding[one.session_id] = one
    kept = sorted(judged.after(0), key=lambda arrived: (arrived.verdict.decided_at_ms, arrived.number))
    by_session: dict[str, list[Verdict]] = {}
    for arrived in kept:
        by_session.setdefault(arrived.verdict.session_id, []).append(arrived.verdict)
    assert len(by_session) <= 2 * keep
    assert all(len(of_session) <= MOST_OF_A_SESSION for of_session in by_session.values())
    assert {session: by_session[session][-1].decided_at_ms for session in holding} == {
        session: one.decided_at_ms for session, one in holding.items()
    }


def test_a_page_gets_each_verdict_once_and_goes_on_where_it_was() -> None:
    """Alerts and verdicts share their positions: what came since is sent, nothing twice; a repeat is no news."""

    async def check() -> None:
        board = board_of(10)
        board.add([alert("1", account_id="a")])
        board.judge([verdict(1, 1), verdict(1, 1), verdict(2, 2)])
        first = await read(board.messages(None))
        assert found(first, "verdicts", "verdict_id") == ["1", "2"]
        position = first[-1].position
        board.judge([verdict(1, 1)])
        assert found(await read(board.messages(position)), "verdicts", "verdict_id") == []
        board.judge([verdict(1, 3)])
        board.add([alert("3")])
        again = await read(board.messages(position))
        assert found(again, "verdicts", "verdict_id") == ["3"]
        assert found(again, "alerts", "session_id") == ["3"]
        assert [one.position for one in again if one.event in {"alerts", "verdicts"}] == [
            None,
            again[-1].position,
        ]

    asyncio.run(check())


def test_many_verdicts_leave_those_on_alerts() -> None:
    """A system that judges thousands of other sessions does not push out what was found of those that are shown."""

    async def check() -> None:
        board = board_of(3)
        board.add(alert(str(session), account_id="a", detected_at_ms=session) for session in range(4))
        board.judge(verdict(session, session) for session in range(4))
        board.judge(verdict(session, session) for session in range(10, 5_000))
        got = found(await read(board.messages(None)), "verdicts", "session_id")
        assert set(got) == {"1", "2", "3", *map(str, range(4_997, 5_000))}

    asyncio.run(check())
