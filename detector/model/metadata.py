"""The metadata of a model file: what a model is, how it came to be, and what it scored when it was exported."""

import msgspec

from detector.contract.actions import ENDS_SESSION, LARGE_MONEY, MOVES_MONEY
from detector.core.drift import Reference
from detector.core.encoding import Encoding
from detector.core.evidence import Evidence
from detector.core.signals import Signal

FORMAT = 1
SESSIONS_FORMAT = 2
"""Of files that say how a session's windows add up, or what ends it: a detector that read past it would score wrongly."""
SIGNALS_FORMAT = 3
"""Of files that declare signals."""


class Canary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session and the graph's score of its window when the model was exported; evidence is not in it.

    `times_ms` are milliseconds since the first action, one for each; None where the model uses no time.
    """

    actions: list[str]
    score: float
    times_ms: list[int] | None = None
    signals: list[list[int]] | None = None
    """Their codes, for each action; None where the model has none."""

    def steps(self, encoding: Encoding) -> bytes:
        """Encode it.

        Raises:
            ValueError: an action or a signal is none of the encoding's.
        """
        signals = None if self.signals is None else [bytes(one) for one in self.signals]
        width = len(encoding.signals)
        if signals is not None and any(len(one) != width for one in signals):
            raise ValueError(f"signals {self.signals}: expected {width} for each action")
        return encoding.steps(self.actions, self.times_ms, signals)


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model is and how it came to be. Holds no wall-clock time, so that a model can be reproduced."""

    format: int
    name: str
    version: str
    preset: str
    """The simulated traffic that it was trained on."""
    vocabulary: list[str]
    """The actions; the first has code 1."""
    window: int
    gap_bounds_ms: list[int]
    """Lower bounds of the gap buckets; empty where the model uses no time."""
    threshold: float
    """The score that blocks."""
    challenge_threshold: float | None = None
    """The score that asks for a second factor, below the one that blocks; None where the training chose none."""
    training: dict[str, int | float | str]
    """Parameters of the training, the seed among them."""
    metrics: dict[str, float]
    """Figures on the sessions held out."""
    data_sha256: str
    """Of the training data, hexadecimal."""
    libraries: dict[str, str]
    """Versions of the libraries that trained and exported it."""
    canaries: list[Canary]
    unknown_token: bool = False
    """Whether the graph has a row for actions beyond the vocabulary, after those of the vocabulary."""
    evidence: Evidence | None = None
    """How a session's windows add up to its score; without it the last window's score is the session's."""
    ends_session: tuple[str, ...] = ENDS_SESSION
    """Actions that end a session."""
    moves_money: tuple[str, ...] = MOVES_MONEY
    """Actions that move money. It and `large_money` are for figures, and decide nothing."""
    large_money: tuple[str, ...] = LARGE_MONEY
    """Those of them that move a lot."""
    signals: tuple[Signal, ...] = ()
    """What the model reads beside action and gap, in the order of the graph's input."""
    idle_timeout_ms: int | None = None
    """A session without an action for longer has ended: where it was trained so; None is half an hour."""
    drift: Reference | None = None
    """What traffic is held against; decides nothing. None in files of before it was recorded."""


def format_of(metadata: ModelMetadata) -> int:
    """Return the format that a file with this metadata is written in: the oldest whose detectors score it rightly."""
    if metadata.signals:
        return SIGNALS_FORMAT
    is_as_ever = metadata.evidence is None and set(metadata.ends_session) == set(ENDS_SESSION)
    return FORMAT if is_as_ever else SESSIONS_FORMAT
