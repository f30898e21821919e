"""`python -m demo`: the options, the summary, and what to do next."""

import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from broker import BrokerError
from demo.processes import ChildFailedError
from demo.run import Stage, TimeLimitError, console_of, run, stage
from demo.traffic import Plan, lives, notebook
from demo.view import LiveView, PlainView, View, let_go, table
from detector.ranges import NumberRange
from detector.version import VERSION

_NEXT = "next: your own data, docs/tutorial.md"
_CONSOLE = "; or `make demo ARGS=--keep`, which opens the console on what was shown"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--preset",
    type=click.Choice(["lives", "seed"]),
    default="lives",
    help="Customers from day to day and the packaged model of histories, or the notebook's sessions and its model.",
)
@click.option("--customers", type=click.IntRange(min=1), show_default="600", help="Of the lives.")
@click.option("--sessions", type=click.IntRange(min=1), show_default="1100", help="Of the preset seed.")
@click.option("--seed", type=int, default=42, help="Seed of the simulation.")
@click.option(
    "--rate", type=NumberRange(min=1), default=600.0, help="Events published a second, in the mean."
)
@click.option("--time-limit", type=NumberRange(min=1), default=600.0, help="Longest run, in seconds.")
@click.option(
    "--keep", is_flag=True, help="Open the console on what was shown, and keep all running until Ctrl-C."
)
@click.version_option(VERSION)
def main(
    *,
    preset: str,
    customers: int | None,
    sessions: int | None,
    seed: int,
    rate: float,
    time_limit: float,
    keep: bool,
) -> None:
    """Send simulated sessions through Kafka and the detector, and show the block alerts as they arrive.

    What comes before the sessions shown is published first, uncounted: it warms broker and detector up, and gives
    accounts their histories. Ends by itself and leaves nothing running; Ctrl-C ends it at any point. The exit code is
    0 if every event was scored and the alerts on the topic are those that an offline replay of the log gives; of the
    seed preset only if every attack was blocked once, too, and no lawful session was.
    """
    plan = _plan(preset, customers, sessions, seed)
    console = Console()
    view: View = LiveView(console) if console.is_terminal else PlainView(console)
    for ended_by in (signal.SIGTERM, signal.SIGHUP):  # a terminal that is closed hangs up
        signal.signal(ended_by, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="session-fraud-demo-"))
    try:
        with ExitStack() as stack:
            with view:
                at = stage(stack, folder, view, time_limit)
                summary = run(at, view, plan, rate)
            for line in let_go(summary):
                console.print(line, soft_wrap=True, highlight=False, markup=False)
            console.print(table(summary, plan))
            if keep:
                _keep(console, at)
    except KeyboardInterrupt:
        console.print("interrupted: everything that was started has been ended")
        sys.exit(130)
    except (BrokerError, ChildFailedError, TimeLimitError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    console.print(_NEXT + ("" if keep else _CONSOLE), soft_wrap=True, highlight=False, markup=False)
    sys.exit(0 if summary.as_offline and (preset == "lives" or summary.service.flawless) else 1)


def _plan(preset: str, customers: int | None, sessions: int | None, seed: int) -> Plan:
    if preset == "lives":
        if sessions is not None:
            raise click.UsageError("--sessions is of --preset seed; lives are as many as --customers")
        return lives(customers or 600, seed)
    if customers is not None:
        raise click.UsageError("--customers is of --preset lives; the notebook's preset takes --sessions")
    return notebook(sessions or 1_100, seed)


def _keep(console: Console, at: Stage) -> None:
    """Open the console on what was shown, until Ctrl-C."""
    try:
        address = console_of(at)
        console.print(
            f"console: {address} until Ctrl-C; the broker: KAFKA_BOOTSTRAP_SERVERS={at.environment['KAFKA_BOOTSTRAP_SERVERS']}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
        signal.pause()
    except KeyboardInterrupt:
        console.print("everything that was started is being ended")
