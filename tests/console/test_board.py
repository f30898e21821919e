"""The board: bounded, in the order of time, each alert once, and a page can go on where it was."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from detector.console.board import About, Board, Link, LinkState, Message
from detector.contract.alerts import Alert
from tests.console.alerts import NOW_MS, alert


def board_of(keep: int) -> Board:
    """Return an empty board."""
    return Board(About(keep=keep, workers=0, token_required=False), LinkState(Link.CONNECTING, NOW_MS))


async def read(messages: AsyncIterator[Message]) -> list[Message]:
    """Take what there is now."""
    taken: list[Message] = []
    while True:
        waiting = asyncio.ensure_future(anext(messages))
        for _ in range(3):
            await asyncio.sleep(0)
        if not waiting.done():
            waiting.cancel()
            return taken
        taken.append(waiting.result())


def found(messages: list[Message], event: str, field: str) -> list[str]:
    """Return a field of all records in messages of a kind."""
    return [
        one[field]
        for message in messages
        if message.event == event
        for one in msgspec.json.decode(message.data)
    ]


def ids(messages: list[Message]) -> list[str]:
    """Return the ids of all alerts in messages."""
    return found(messages, "alerts", "alert_id")


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 100)), max_size=60),
    st.integers(1, 10),
)
def test_the_newest_are_kept_each_once(arriving: list[tuple[int, int]], keep: int) -> None:
    """Whatever comes in whatever order, a new page gets at most `keep` alerts, each once, and the newest of those held."""

    async def check() -> None:
        board = board_of(keep)
        held: list[Alert] = []
        for name, at_ms in arriving:
            one = alert("s", alert_id=str(name), detected_at_ms=at_ms)
            board.add([one])
            if str(name) not in {other.alert_id for other in held}:
                held = sorted([*held, one], key=lambda other: other.detected_at_ms)[-keep:]
        assert sorted(ids(await read(board.messages(None)))) == sorted(one.alert_id for one in held)

    asyncio.run(check())


def test_a_page_goes_on_after_its_last_position() -> None:
    """A known position brings only what is newer; another run's or a broken one begins anew, with `about`."""

    async def check() -> None:
        board = board_of(10)
        board.add([alert("s", alert_id=str(number)) for number in range(3)])
        first = await read(board.messages(None))
        assert [message.event for message in first] == ["about", "link", "verdicts-link", "alerts"]
        position = first[-1].position
        board.add([alert("s", alert_id="3")])
        again = await read(board.messages(position))
        assert ids(again) == ["3"]
        assert "about" not in {message.event for message in again}
        for stranger in ("other-2", "", "-", f"{position}x"):
            fresh = await read(board.messages(stranger))
            assert fresh[0].event == "about"
            assert sorted(ids(fresh)) == ["0", "1", "2", "3"]

    asyncio.run(check())


def test_a_waiting_page_is_woken_by_each_change() -> None:
    """Alerts and states reach a page that waits; the same state told again does not."""

    async def check() -> None:
        board = board_of(10)
        messages = board.messages(None)
        assert [(await anext(messages)).event for _ in range(3)] == ["about", "link", "verdicts-link"]
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        assert not waiting.done()
        board.set_link(LinkState(Link.CONNECTING, NOW_MS + 5))
        await asyncio.sleep(0)
        assert not waiting.done()
        board.set_link(LinkState(Link.LIVE, NOW_MS + 9))
        assert msgspec.json.decode((await waiting).data)["link"] == "live"
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        board.add([alert("s", alert_id="a")])
        assert ids([await waiting]) == ["a"]

    asyncio.run(check())


def test_a_slow_page_piles_nothing_up() -> None:
    """A page that reads nothing while many alerts pass gets those kept, and a bounded number a message."""

    async def check() -> None:
        board = board_of(250)
        messages = board.messages(None)
        await anext(messages)
        for number in range(2_000):
            board.add([alert("s", alert_id=str(number), detected_at_ms=number)])
        got = await read(messages)
        assert ids(got) == [str(number) for number in range(1_750, 2_000)]
        assert max(len(ids([message])) for message in got) <= 100

    asyncio.run(check())
