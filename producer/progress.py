"""Progress of a run: a bar on a terminal, plain lines anywhere else."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINE_INTERVAL_S = 5.0


class ProgressReport:
    """Shows how far a run is, of `total` units, and its mean speed in events/s."""

    def __init__(self, console: Console, verb: str, total: int) -> None:
        """Report to `console`, saying `verb` of the events."""
        self._console = console
        self._verb = verb
        self._total = max(total, 1)
        self._started_s = self._line_at_s = time.monotonic()
        self._line_at_s += LINE_INTERVAL_S
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn(verb),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[events]:,} events"),
                TextColumn("{task.fields[rate]:,.0f} events/s"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(verb, total=self._total, events=0, rate=0.0)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, events: int, done: int) -> None:
        """Show `events` handled, `done` units of the total; call as often as you like."""
        now_s = time.monotonic()
        rate = events / max(now_s - self._started_s, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, events=events, rate=rate)
        elif now_s >= self._line_at_s:
            self._line_at_s = now_s + LINE_INTERVAL_S
            self._console.print(
                f"{self._verb} {events:,} events, {min(1.0, done / self._total):.0%}, {rate:,.0f} events/s",
                highlight=False,
            )
