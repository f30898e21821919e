"""Signals of sessions: what the detector would have computed, event by event, with a profile of each account.

As if no session was blocked: the worst case, an attack that was missed teaches.
"""

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from detector.core.limits import SessionLimits
from detector.core.profile import Profile, tag_of
from detector.core.signals import Signals
from trainer.data.sessions import UNLABELLED, Sessions, together_in
from trainer.data.sittings import Sittings, in_order_ms, sittings, stream_time_ms

CHUNK_EVENTS: Final = 100_000
"""That are in memory as Python's objects at once."""


class Loss(NamedTuple):
    """How histories are lost, so that an account without one is met as such, and not as suspicious by that."""

    share: float
    """Of the accounts, chosen by chance: theirs are lost again and again."""
    seed: int = 0
    each_time: float = 0.5
    """Probability before each of their sessions."""


LOSS: Final = Loss(0.2)
"""Of the histories that are trained on."""


def told_of_signals(signals: Signals) -> list[str]:
    """Say which signals a training reads, and how histories are lost; nothing without signals."""
    if not signals:
        return []
    names = ", ".join(f"{one.name} ({one.kind})" for one in signals.declared)
    lost = (
        f"; {LOSS.share:.0%} of the accounts trained on lose their history again and again"
        * signals.of_history
    )
    return [f"reads the signals {names}{lost}"]


def with_signals(
    sessions: Sessions,
    encoding: Encoding,
    idle_timeout_ms: int,
    loss: Loss | None = None,
    *,
    keeps_fields: bool = False,
) -> Sessions:
    """Return the labelled sessions with their signals: for all of the data, before it is split.

    What an account did before may be in another part, or in sessions of which nobody knows whether they are attacks.

    Args:
        sessions: all of them.
        encoding: of the model.
        idle_timeout_ms: a session without an action for longer has ended.
        loss: of histories; none if None.
        keeps_fields: whether signals are to be computed again, of sessions that are changed.
    """
    found = sittings(sessions, encoding.window, idle_timeout_ms, encoding.ends_session)
    signals = np.zeros((len(sessions.actions), len(encoding.signals)), np.uint8)
    signals[found.kept] = observed(found, encoding, idle_timeout_ms, loss)
    known = np.flatnonzero(sessions.labels != UNLABELLED)
    return replace(sessions, signals=signals, fields=sessions.fields if keeps_fields else {}).take(known)


def in_history(whole: Sessions, changed: Sessions, encoding: Encoding, idle_timeout_ms: int) -> Sessions:
    """Return sessions with the signals that they would have had in the place of those of the same ids.

    Args:
        whole: all sessions, with their fields.
        changed: some of them, changed.
        encoding: of the model.
        idle_timeout_ms: a session without an action for longer has ended.
    """
    accounts, ids = set(_accounts(changed)), set(changed.ids)
    pairs = zip(whole.ids, _accounts(whole), strict=True)
    history = [at for at, (one, account) in enumerate(pairs) if account in accounts and one not in ids]
    together = together_in(_plain(whole.take(np.array(history, np.int64))), _plain(changed))
    found = with_signals(together, encoding, idle_timeout_ms)
    return found.take(np.arange(len(history), len(found)))


def _plain(sessions: Sessions) -> Sessions:
    """Return sessions as those of which nothing is known but what their events hold, in the order of their times."""
    return replace(
        sessions,
        signals=None, attack_ids=None, parts=None, weights=None, stream_ms=None, event_hashes=None, log_places=None,
    )  # fmt: skip


def _accounts(sessions: Sessions) -> list[str]:
    """Return whose each session is."""
    if sessions.accounts is None:
        return list(sessions.ids)
    return [sessions.accounts.names[code] for code in sessions.accounts.codes]


def observed(
    found: Sittings, encoding: Encoding, idle_timeout_ms: int, loss: Loss | None = None
) -> NDArray[np.uint8]:
    """Compute every action's signals, by what its account did before.

    Sessions without accounts have one each. An account's events are in the order of the log, or of their times.

    Args:
        found: sessions as they are served.
        encoding: of the model, which declares the signals and says what ends a session.
        idle_timeout_ms: a session without an action for longer has ended.
        loss: of histories; none if None.

    Returns:
        shape (actions, signals).
    """
    sessions, signals = found.sessions, encoding.signals
    order, accounts, names = _by_account(sessions)
    of_session = np.repeat(np.arange(len(sessions)), sessions.lengths)
    tags = [tag_of(one) for one in sessions.ids]
    ends = [name in encoding.ends_session for name in sessions.names]
    at_ms = in_order_ms(sessions, found.begins)
    gaps_ms = np.diff(at_ms, prepend=0)
    nothing = np.full(len(order), None, object)
    fields = [sessions.fields.get(name, nothing) for name in signals.fields]
    codes = np.empty((len(order), len(signals)), np.uint8)
    lost = np.zeros(len(order), np.bool_)
    if (now_ms := stream_time_ms(sessions)) is not None:
        lost[order[1:]] = np.diff(now_ms[order]) > SessionLimits().account_timeout_ms
    if loss is not None:
        rng = np.random.default_rng(loss.seed)
        loses = rng.random(len(names)) < loss.share
        lost |= found.begins & loses[accounts] & (rng.random(len(order)) < loss.each_time)
    over_after_s = -(-idle_timeout_ms // 1_000)
    account, profile = -1, Profile(signals, over_after_s=over_after_s)
    for at in range(0, len(order), CHUNK_EVENTS):
        rows = order[at : at + CHUNK_EVENTS]
        columns = (accounts, of_session, sessions.actions, found.begins, at_ms, gaps_ms, lost)
        values = (
            zip(*(column[rows].tolist() for column in fields), strict=True) if fields else [()] * len(rows)
        )
        made = []
        for (whose, session, action, begins, time_ms, gap_ms, is_lost), of_fields in zip(
            zip(*(column[rows].tolist() for column in columns), strict=True), values, strict=True
        ):
            if whose != account or is_lost:
                account, profile = whose, Profile(signals, over_after_s=over_after_s)
            made.append(
                profile.observe(
                    tags[session],
                    names[whose],
                    sessions.names[action],
                    time_ms,
                    None if begins else gap_ms,
                    of_fields,
                    ends=ends[action],
                )
            )
        codes[rows] = np.frombuffer(b"".join(made), np.uint8).reshape(len(rows), len(signals))
    return codes


def _by_account(sessions: Sessions) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Return the actions in the order of their accounts and, within each, of the log; each one's account; the names."""
    if sessions.accounts is None:
        names, codes = sessions.ids.tolist(), np.arange(len(sessions))
    else:
        names, codes = list(sessions.accounts.names), sessions.accounts.codes.astype(np.int64)
    accounts = np.repeat(codes, sessions.lengths)
    place = sessions.log_places if sessions.log_places is not None else stream_time_ms(sessions)
    keys = (accounts,) if place is None else (place, accounts)
    return np.lexsort(keys), accounts, names
