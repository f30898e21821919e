"""Scores as a table, for whoever has figures of their own."""

from pathlib import Path
from typing import Any

import numpy as np

from detector.writing import written_whole
from trainer.data.sessions import DataError
from trainer.evaluation.scoring import NEVER, Scored


def check_path(path: Path) -> Path:
    """Return a path that scores can be written to.

    Raises:
        DataError: the suffix says no form, or there is no such folder.
    """
    if path.suffix not in {".parquet", ".csv"}:
        raise DataError(f"{path} ends in {path.suffix or 'nothing'}: expected .parquet or .csv")
    if not path.parent.is_dir():
        raise DataError(f"{path} cannot be written: expected a file in a folder that is there")
    return path


def write_scores(path: Path, scored: Scored, threshold: float, *, events: bool) -> None:
    """Write a row for each session, or for each event: Parquet or CSV, by the suffix.

    A session has its label, its highest score (of an attack, from the attacker's first action on), its last score and
    the number of the action on which it is blocked; an event its number from 1, its target and the score after it.

    Raises:
        OSError: the file cannot be written.
    """
    import polars as pl  # noqa: PLC0415  --help must not wait for it

    frame = pl.DataFrame(_events(scored) if events else _sessions(scored, threshold))
    with written_whole(path) as file:
        frame.write_parquet(file) if path.suffix == ".parquet" else frame.write_csv(file)


def _sessions(scored: Scored, threshold: float) -> dict[str, Any]:
    sessions, blocks = scored.sessions, scored.first_blocks(threshold)
    accounts, types = sessions.accounts, sessions.types
    return {
        "session_id": sessions.ids.astype(str),
        **({} if accounts is None else {"account_id": np.array(accounts.names)[accounts.codes]}),
        "type": np.array(types.names)[types.codes],
        "label": sessions.labels,
        "actions": sessions.lengths,
        "highest": scored.highest(),
        "last": scored.last(),
        "blocked_at": [None if block == NEVER else block + 1 for block in blocks.tolist()],
    }


def _events(scored: Scored) -> dict[str, Any]:
    sessions = scored.sessions
    times_ms = {} if sessions.times_ms is None else {"timestamp_ms": sessions.times_ms}
    return {
        "session_id": np.repeat(sessions.ids.astype(str), sessions.lengths),
        "number": np.arange(1, len(sessions.actions) + 1) - np.repeat(sessions.starts[:-1], sessions.lengths),
        "action": np.array(sessions.names)[sessions.actions],
        **times_ms,
        "target": sessions.targets,
        "score": scored.scores,
    }
