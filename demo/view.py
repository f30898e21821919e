"""What the terminal shows: a live view where it is a terminal, plain lines where it is not."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo.summary import Outcome, Received, Summary
from demo.traffic import Plan
from detector.contract.labels import SessionLabel

_PLAIN_EVERY_S = 2.0
_LET_GO_SHOWN = 5
_ACTIONS_SHOWN = 2
_MODELS = {"history": "model of histories", "seed": "notebook's model"}


class View(Protocol):
    """A place to show a run."""

    def step(self, text: str) -> None:
        """Say what is going on."""

    def alert(self, received: Received, truth: SessionLabel) -> None:
        """Show an alert, and what its session is."""

    def progress(self, events: int, total: int, events_per_s: float, lag: int) -> None:
        """Show how far the run is."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""


def describe(received: Received, truth: SessionLabel) -> str:
    """Put an alert into a line, and the weightiest reason that speaks for it into another."""
    alert = received.alert
    why = next((one for one in alert.explanation if one.rpartition(": ")[2].startswith("+")), alert.cause)
    return (
        f"{alert.decision}  session {alert.session_id[:12]}…  score {alert.score:.4f}  {received.latency_ms:>4} ms  "
        f"action {alert.action_number} of {'an attack' if truth.label else 'a lawful session'}: {truth.type}\n       {why}"
    )


class PlainView:
    """Lines, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_s = 0.0

    def step(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def alert(self, received: Received, truth: SessionLabel) -> None:
        """Print the alert."""
        self.step(describe(received, truth))

    def progress(self, events: int, total: int, events_per_s: float, lag: int) -> None:
        """Print the figures, now and then."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _PLAIN_EVERY_S
            self.step(f"{events:,} of {total:,} events scored, {events_per_s:,.0f} events/s, lag {lag:,}")

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
            TextColumn("[bold]events scored"),
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

    def alert(self, received: Received, truth: SessionLabel) -> None:
        """Print the alert above the bar."""
        text = escape(describe(received, truth))
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


def let_go(summary: Summary) -> list[str]:
    """Tell of lawful sessions that look like attacks and were let go: the shortest, as attacks are short."""
    told = ", blocked by the notebook's model"
    passed = [id_ for id_ in summary.alike if id_ not in summary.service.blocked]
    lines = []
    for id_ in sorted(passed, key=lambda one: (len(summary.alike[one]), one))[:_LET_GO_SHOWN]:
        truth, other = summary.truths[id_], summary.beside is not None and id_ in summary.beside.blocked
        lines.append(
            f"let go  session {id_[:12]}…  lawful: {truth.type}, customer: {truth.customer_type}"
            f"{told if other else ''}\n       {' → '.join(summary.alike[id_])}"
        )
    return lines


def table(summary: Summary, plan: Plan) -> Table:
    """Lay the summary out as a table, a column a model."""
    models = [(plan.model, summary.service)]
    if summary.beside:
        models.append((plan.beside, summary.beside))
    rows = Table(title="Summary", title_justify="left")
    rows.add_column("", no_wrap=True)
    for name, _ in models:
        rows.add_column(_MODELS[name])

    def row(name: str, figure: Callable[[Outcome], int], total: int | None = None) -> None:
        of = "" if total is None else f" of {total:,}"
        rows.add_row(name, *(f"{figure(outcome):,}{of}" for _, outcome in models))

    attacks = sum(summary.attacks_by_type.values())
    row("attackers' sessions blocked", lambda one: one.caught, attacks)
    for kind, count in sorted(summary.attacks_by_type.items()):
        row(f"  {kind}", lambda one, kind=kind: one.caught_by_type.get(kind, 0), count)  # type: ignore[misc]
    row("lawful sessions blocked", lambda one: one.false_alarms, len(summary.truths) - attacks)
    if summary.alike:
        row("  that look like an attack", lambda one: one.alike_blocked, len(summary.alike))
    row("blocked twice", lambda one: one.doubled)
    rows.add_section()
    rows.add_row("blocked at action", _until(summary.actions_until_block))
    latencies = ", ".join(f"p{p} {ms:,.0f}" for p, ms in summary.latency_ms.items())
    rows.add_row("action to alert, ms", latencies or "none")
    rows.add_row("as replayed offline", "yes, bit for bit" if summary.as_offline else "NO")
    return rows


def _until(actions: Mapping[int, int]) -> str:
    """Say at which action blocks came: the first of these, and how many later."""
    first = sorted(actions)[:_ACTIONS_SHOWN]
    later = sum(actions.values()) - sum(actions[n] for n in first)
    return (
        ", ".join([*(f"{actions[n]:,} at {n}" for n in first), *([f"{later:,} later"] if later else [])])
        or "none"
    )
