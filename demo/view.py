"""What the terminal shows: a live view where it is a terminal, plain lines where it is not."""

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo.summary import Received, Summary

_PLAIN_EVERY_S = 2.0


class View(Protocol):
    """A place to show a run."""

    def step(self, text: str) -> None:
        """Say what is going on."""

    def alert(self, received: Received) -> None:
        """Show an alert."""

    def progress(self, events: int, total: int, events_per_s: float, lag: int) -> None:
        """Show how far the run is."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""


def describe(received: Received) -> str:
    """Put an alert into one line."""
    alert = received.alert
    return (
        f"{alert.decision}  session {alert.session_id[:12]}…  score {alert.score:.4f}  "
        f"{received.latency_ms:>4} ms  {' → '.join(alert.window)}"
    )


class PlainView:
    """Lines, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_s = 0.0

    def step(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def alert(self, received: Received) -> None:
        """Print the alert."""
        self.step(describe(received))

    def progress(self, events: int, total: int, events_per_s: float, lag: int) -> None:
        """Print the figures, now and then."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _PLAIN_EVERY_S
            self.step(
                f"{events:,} of {total:,} events published scored, {events_per_s:,.0f} events/s, lag {lag:,}"
            )

    def __enter__(self) -> Self:
        """Begin: nothing to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End: nothing to do."""


class LiveView:
    """Alerts scroll by above a progress bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("[bold]scored of published"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f} events/s · lag {task.fields[lag]:,}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("events", total=None, rate=0.0, lag=0)

    def step(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(f"[dim]{text}[/]", highlight=False)

    def alert(self, received: Received) -> None:
        """Print the alert above the bar."""
        text = describe(received)
        self._console.print(f"[bold red]{text[:5]}[/]{text[5:]}", highlight=False, soft_wrap=True)

    def progress(self, events: int, total: int, events_per_s: float, lag: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=events, total=total or None, rate=events_per_s, lag=lag)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar down."""
        self._progress.stop()


def table(summary: Summary) -> Table:
    """Lay the summary out as a table."""
    rows = Table("", "figure", title="Summary", title_justify="left", show_header=False)
    rows.add_row("sessions", f"{summary.sessions:,}")
    rows.add_row("attacks", f"{summary.attacks:,}")
    rows.add_row("caught", f"{summary.caught:,}")
    for kind, attacks in sorted(summary.attacks_by_type.items()):
        rows.add_row(f"  {kind}", f"{summary.caught_by_type.get(kind, 0):,} of {attacks:,}")
    rows.add_row("missed", f"{summary.missed:,}")
    rows.add_row("false alarms", f"{summary.false_alarms:,}")
    rows.add_row("blocked twice", f"{summary.doubled:,}")
    until = ", ".join(f"{count:,} at action {n}" for n, count in sorted(summary.actions_until_block.items()))
    rows.add_row("actions until the block", until or "none")
    latencies = ", ".join(f"p{p} {latency_ms:,.0f} ms" for p, latency_ms in summary.latency_ms.items())
    rows.add_row("action to alert", latencies or "none")
    return rows
