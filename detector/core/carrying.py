"""Carrying over: from the scores of a batch's windows to those of its sessions, and what these keep for the next batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from detector.contract.alerts import ModelReference
from detector.core.evidence import Evidence
from detector.core.session import ENDED, MODEL_BYTES, carried, flags, with_carried
from detector.core.staging import Candidate


@dataclass(frozen=True, slots=True)
class Carrier:
    """Whose evidence is carried over, and where.

    A value is its model's alone. Another model, be it the next in service, begins with nothing: it would read other
    units, and often the model that it replaces has gone bad. So a challenger changes no decision, not even later.

    Attributes:
        evidence: how the model's windows add up.
        model: by whose hash its values are known.
        flag: of the place in a session, CARRIED or SHADOW_CARRIED.
    """

    evidence: Evidence
    model: ModelReference
    flag: int

    @property
    def key(self) -> bytes:
        """What a session's values are known by as the model's."""
        return bytes.fromhex(self.model.sha256)[:MODEL_BYTES]


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the scores of a batch's windows come to in their sessions.

    Attributes:
        scores: of the sessions, one for each candidate. Without evidence those of the windows, and nothing else.
        before: what was carried over to each candidate, by its offset.
        after: what each session carries on, by its id.
        carrier: whose that is.
    """

    scores: list[float]
    before: dict[int, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    carrier: Carrier | None = None

    def keep(self, touched: dict[str, bytes]) -> None:
        """Put what is carried on into the packed sessions; one that has ended needs it no more."""
        if self.carrier is None:
            return
        flag, key = self.carrier.flag, self.carrier.key
        for session_id, value in self.after.items():
            packed = touched.get(session_id)
            if packed is not None and not flags(packed) & ENDED:
                touched[session_id] = with_carried(packed, flag, key, value)


def weighed(
    carrier: Carrier | None,
    candidates: Sequence[Candidate],
    window_scores: list[float],
    sessions: Mapping[str, bytes],
) -> Weighed:
    """Weigh a batch of one partition in the order of its log.

    Args:
        carrier: None without evidence.
        candidates: as staged.
        window_scores: one for each. What is no score stays what it is, and leaves its session's evidence alone.
        sessions: packed, as they were before the batch; asked for those that go on in it.
    """
    if carrier is None:
        return Weighed(window_scores)
    weigh, standing = carrier.evidence.weigh, carrier.evidence.standing
    flag, key = carrier.flag, carrier.key
    scores: list[float] = []
    before: dict[int, float] = {}
    after: dict[str, float] = {}
    for candidate, window_score in zip(candidates, window_scores, strict=True):
        session_id, number = candidate.key, candidate.action_number
        if number == 1 and candidate.is_step:
            value = 0.0
        elif session_id in after:
            value = after[session_id]
        else:
            value = carried(sessions[session_id], flag, key)
        score = window_score
        if candidate.is_step:
            before[candidate.offset] = value
            if 0 <= window_score <= 1:
                score, value = weigh(window_score, value, number)
        elif 0 <= window_score <= 1:
            score = standing(window_score, value, number)
        scores.append(score)
        after[session_id] = value
    return Weighed(scores, before, after, carrier)
