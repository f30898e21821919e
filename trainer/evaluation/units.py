"""What is judged: sessions, events or accounts, as they are labelled, each with one score."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.sessions import UNLABELLED, DataError, LabelsOf, Sessions
from trainer.evaluation.intervals import Draws
from trainer.evaluation.scoring import Scored


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Labelled examples of one unit.

    Attributes:
        unit: what an example is.
        index: shape (examples,); which of the sessions, of the actions, or of the accounts' names it is.
        labels: shape (examples,), True for an attack.
        scores: shape (examples,), float32; what is held against a threshold.
        ranked: what attacks and lawful examples are ranked by; `scores`, but for sessions that are attacked late.
        last: of sessions, the score after the last action; None of others.
        groups: shape (examples,), whose each is: the account's where there are accounts, else the session's.
    """

    unit: LabelsOf
    index: NDArray[np.int64]
    labels: NDArray[np.bool_]
    scores: NDArray[np.float32]
    ranked: NDArray[np.float32]
    last: NDArray[np.float32] | None
    groups: NDArray[np.int64]

    @property
    def draws(self) -> Draws:
        """Samples for intervals."""
        return Draws(self.labels, self.groups)


def labels_by(sessions: Sessions, unit: LabelsOf) -> NDArray[np.bool_]:
    """Return whether each labelled example of a unit is an attack; shape (examples,)."""
    labels = sessions.targets if unit == "event" else sessions.labels
    known = labels != UNLABELLED
    attack: NDArray[np.bool_] = labels[known] == 1
    if unit == "account" and sessions.accounts is not None:
        _, owner = np.unique(sessions.accounts.codes[known], return_inverse=True)
        attack = np.bincount(owner, attack) > 0
    return attack


def judge(scored: Scored, unit: LabelsOf) -> Judged:
    """Return the labelled examples of a unit, each with its score.

    An event has the score after it, a session its highest (of an attack, from the attacker's first action on), an
    account the highest of its sessions. What nobody labelled is no example.

    Raises:
        DataError: there are no accounts, or not examples of both kinds.
    """
    sessions = scored.sessions
    owners = np.arange(len(sessions)) if sessions.accounts is None else sessions.accounts.codes
    owners = owners.astype(np.int64)
    last = None
    if unit == "event":
        known = sessions.targets != UNLABELLED
        labels, scores = sessions.targets[known] == 1, scored.scores[known]
        groups, ranked = np.repeat(owners, sessions.lengths)[known], scores
    else:
        known = sessions.labels != UNLABELLED
        labels, scores = sessions.labels[known] == 1, scored.highest()[known]
        groups, ranked, last = owners[known], scored.compared()[known], scored.last()[known]
    if unit == "account":
        if sessions.accounts is None:
            raise DataError(
                "the sessions have no accounts: expected an account each; evaluate per session or event"
            )
        index, position = np.unique(groups, return_inverse=True)
        highest, attacked = np.zeros(len(index), np.float32), np.zeros(len(index), np.bool_)
        np.maximum.at(highest, position, scores)
        np.logical_or.at(attacked, position, labels)
        labels, scores, ranked, last, groups = attacked, highest, highest, None, index
    else:
        index = np.flatnonzero(known)
    attacks = int(labels.sum())
    if not 0 < attacks < len(labels):
        raise DataError(
            f"{attacks:,} attacks and {len(labels) - attacks:,} lawful {unit}s: expected some of both; evaluate on more, or "
            "on another part"
        )
    return Judged(unit, index, labels, scores, ranked, last, groups)
