"""Times in data of one's own: of another unit, days alone, texts, two meanings, two units in one column."""

from pathlib import Path

import polars as pl
import pytest

from trainer.data.description import described
from trainer.data.loading import load
from trainer.data.sessions import DataError

BEGIN_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("first", "wanted"), [(1_700_000_000, "probably they are s"), (5, "count is for a counter")]
)
def test_times_in_another_unit_are_refused_as_one(tmp_path: Path, first: int, wanted: str) -> None:
    """What lies before 2000 or after 2100 is no time; the unit that fits is named."""
    path = tmp_path / "data.csv"
    path.write_text(
        "session_id,action,occurred_at_ms,label\n" + "".join(f"a,A,{first + n},0\n" for n in range(9))
    )
    with pytest.raises(DataError, match=wanted):
        load(path, skip_bad_lines=True)
    assert load(path, described({"time_unit": "count"})).sessions.times_ms is not None


@pytest.mark.parametrize(("hour", "said"), [("", True), ("T00:00:00Z", True), ("T08:00:00Z", False)])
def test_times_that_are_days_alone_are_told(tmp_path: Path, hour: str, said: bool) -> None:  # noqa: FBT001
    """They say nothing of gaps within a session."""
    path = tmp_path / "data.csv"
    path.write_text(
        f"session_id,action,label,occurred_at_ms\na,A,0,2026-01-02{hour}\na,A,0,2026-01-02{hour}\n"
    )
    assert any("days alone" in line for line in load(path).told) == said


@pytest.mark.parametrize(
    ("delay", "unit", "message"),
    [("9999999999d", "ms", "label_delay = '9999999999d'"), ("1d", "count", "has no times")],
)
def test_a_delay_beyond_all_times_is_refused(tmp_path: Path, delay: str, unit: str, message: str) -> None:
    """One of more digits than any log has days, and one of a counter, which is no clock."""
    path = tmp_path / "data.csv"
    path.write_text(f"session_id,action,label,occurred_at_ms\na,A,0,{BEGIN_MS}\n")
    with pytest.raises(DataError, match=message):
        load(path, described({"label_delay": delay, "time_unit": unit}))


def test_times_as_texts_beside_a_unit_are_said(tmp_path: Path) -> None:
    """A unit is for numbers: the message says which of the two to leave."""
    path = tmp_path / "data.csv"
    path.write_text("session_id,action,label,occurred_at_ms\na,A,0,2026-01-02T03:04:05Z\n")
    with pytest.raises(DataError, match="expected numbers, since a unit is said, s; leave it out for texts"):
        load(path, described({"time_unit": "s"}))


def test_times_that_mean_two_things_are_none(tmp_path: Path) -> None:
    """10/09/2025 is a day of October or of September: it is not guessed, and shown."""
    path = tmp_path / "data.csv"
    path.write_text("session_id,action,label,occurred_at_ms\na,A,0,10/09/2025 08:00\na,A,0,\n")
    with pytest.raises(
        DataError, match=r"time is 10/09/2025 08:00: expected numbers, or .* ISO 8601"
    ) as raised:
        load(path)
    assert "line 3: a time is missing" in str(raised.value)


@pytest.mark.parametrize("share", [2, 10])
def test_two_units_in_one_column_are_said(tmp_path: Path, share: int) -> None:
    """Seconds among milliseconds, half of them or few: a value and its probable unit are told."""
    path = tmp_path / "data.parquet"
    times = [BEGIN_MS // 1000 if number % share == 0 else BEGIN_MS for number in range(20)]
    frame = {"session_id": ["a"] * 20, "action": ["A"] * 20, "label": [0] * 20, "occurred_at_ms": times}
    pl.DataFrame(frame).write_parquet(path)
    with pytest.raises(DataError, match=rf"{BEGIN_MS // 1000}\D.*probably.* s\b.*one unit in a column"):
        load(path)
