"""What a training run is asked for, and the steps that its model will read."""

from dataclasses import dataclass, field

from detector.contract.actions import ENDS_SESSION, LARGE_MONEY, MOVES_MONEY
from detector.core.encoding import Encoding
from detector.core.signals import Signal
from trainer.data.sessions import DataError, Sessions
from trainer.data.windows import Weighing, check_known
from trainer.training.backend import Device
from trainer.training.calibration import Wanted
from trainer.training.defaults import GAP_BUCKETS, Schedule, encoding_for
from trainer.training.network import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """One training run; the same one twice on the same data gives the same file, byte for byte, on one machine.

    Attributes:
        shape: of each network.
        schedule: of each fit.
        members: networks whose logits' mean is the model's. None takes one where the validation part can show
            DEFAULT_TARGET_FPR, and otherwise MEMBERS, each without a fold of the data that then judges it.
        window: actions that the model reads; None for as many as 95 % of the training sessions have, 24 at most.
        gap_buckets: of equal ratio between the 0.5th and 99.5th percentile of the gaps; 0 uses no time.
        signals: to read beside action and gap.
        encoding: the steps to read, as those of a model that this one is to take the place of; None chooses them.
        calibrated: whether scores are made probabilities.
        bigrams: whether logistic regression on pairs of actions becomes the model where it does better.
        wanted: what decides the threshold.
        challenge_fpr: share of lawful examples that may be challenged. None takes DEFAULT_CHALLENGE_FPR where the
            validation part can show it and the threshold is not given, and challenges nobody otherwise.
        base_rate: share of attacks where the model will serve; None for the data's own.
        idle_timeout_ms: of the detector: a session without an action for longer begins anew.
        ends_session: actions after which a session begins anew, if there is no encoding that says so.
        moves_money: actions that move money, and `large_money` much of it, for figures.
        name: in alerts; the kind of model if empty.
        version: in alerts; the first digits of the hash of all else in the file if empty.
        device: to train on; only the CPU gives the same bytes again.
        data_parameters: how the data came to be, for the record in the model file.
    """

    shape: Shape = field(default_factory=Shape)
    schedule: Schedule = field(default_factory=Schedule)
    members: int | None = None
    weighing: Weighing = field(default_factory=Weighing)
    window: int | None = None
    gap_buckets: int = GAP_BUCKETS
    signals: tuple[Signal, ...] = ()
    encoding: Encoding | None = None
    calibrated: bool = True
    bigrams: bool = True
    wanted: Wanted = field(default_factory=Wanted)
    challenge_fpr: float | None = None
    base_rate: float | None = None
    idle_timeout_ms: int = 1_800_000
    ends_session: tuple[str, ...] = ENDS_SESSION
    moves_money: tuple[str, ...] = MOVES_MONEY
    large_money: tuple[str, ...] = LARGE_MONEY
    device: Device = "cpu"
    preset: str = "data"
    name: str = ""
    version: str = ""
    data_parameters: dict[str, int | float | str] = field(default_factory=dict)


def encoding_of(config: TrainingConfig, sessions: Sessions) -> Encoding:
    """Return the steps to read: those that the configuration names, or what fits the sessions to train on.

    Raises:
        DataError: the sessions have hardly an action of the encoding's, or no times where it reads gaps.
    """
    encoding = config.encoding or encoding_for(
        sessions,
        config.window,
        config.gap_buckets,
        ends_session=config.ends_session,
        signals=config.signals,
    )
    check_known(sessions, encoding)
    if encoding.gap_bounds_ms and sessions.times_ms is None:
        raise DataError(
            "the model that is to be replaced reads gaps, and not all sessions have times: expected timestamps_ms in each"
        )
    return encoding
