"""The guard over the ratios of the benchmarks."""

from pathlib import Path

import pytest

from benchmarks.checking import losses
from benchmarks.results import Ratio, Result, Row, markdown, read, write


def result(*runs: float, lower_is_better: bool = False, target: float | None = None) -> Result:
    """Return a result of one ratio."""
    ratio = Ratio("ours by theirs", list(runs), target, lower_is_better=lower_is_better)
    return Result("some", "Some", "How.", [Row("ours", "events/s", [1.0, 2.0])], [ratio])


def test_a_loss_beyond_noise_is_found_and_says_what_it_was() -> None:
    """A ratio that halved while repetitions differ by a few percent is a loss, named with both figures."""
    (found,) = losses([result(10, 10.2, 9.8)], [result(5, 5.1, 4.9)])
    assert (found.before, found.now) == (10, 5)
    assert "ours by theirs: 5, was 10" in str(found)


@pytest.mark.parametrize("now", [(9.5, 9.6, 9.4), (20, 21, 19), (5, 12, 9)])
def test_noise_and_gains_are_no_loss(now: tuple[float, ...]) -> None:
    """Neither a small loss, nor a gain, nor a median that lies within the spread of its own runs is reported."""
    assert not losses([result(10, 10.2, 9.8)], [result(*now)])


def test_where_lower_is_better_a_rise_is_the_loss() -> None:
    """A latency ratio that doubles is a loss, one that halves is none."""
    before = [result(2, 2.1, 1.9, lower_is_better=True)]
    assert losses(before, [result(4, 4.1, 3.9, lower_is_better=True)])
    assert not losses(before, [result(1, 1.1, 0.9, lower_is_better=True)])


def test_a_ratio_that_was_not_measured_is_an_error() -> None:
    """Leaving a benchmark out does not pass the guard."""
    with pytest.raises(LookupError, match="was not measured"):
        losses([result(1.0)], [])


def test_what_is_written_is_read_back_and_drawn(tmp_path: Path) -> None:
    """JSON round-trips, the plot is a picture, and the table says whether a target is reached."""
    one = result(1.0, 2.0, 3.0, target=2.5)
    write(one, tmp_path)
    assert read(tmp_path / "some.json") == one
    assert (tmp_path / "some.png").read_bytes().startswith(b"\x89PNG")
    assert "**not reached**" in markdown(one, "some.png")
