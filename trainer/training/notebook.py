"""The notebook's training, as a configuration of ours."""

from dataclasses import replace
from typing import Final

import numpy as np

from detector.contract.actions import Action
from detector.core.encoding import Encoding
from producer.behaviour import seed as seed_preset
from trainer.data.sessions import Splits, simulated
from trainer.data.windows import Weighing
from trainer.training.calibration import Wanted
from trainer.training.defaults import Schedule
from trainer.training.network import Shape
from trainer.training.pipeline import TrainingConfig

SESSIONS: Final = 11_000
TEST_SHARE: Final = 0.2
NOTEBOOK: Final = TrainingConfig(
    preset="seed",
    name="seed-lstm",
    shape=Shape(units=64, embedding_units=32, dropout=0.2, masked=False),
    schedule=Schedule(
        steps=15 * 275,  # epochs of 8,800 sessions
        batch_size=32,
        learning_rate=1e-3,
        final_share=1.0,
        stops_early=False,
        unknown_share=0.0,
        seed=42,
    ),
    members=1,
    weighing=Weighing(every_prefix=False, attack_share=None),
    encoding=Encoding([action.value for action in Action], 10),
    calibrated=False,
    wanted=Wanted(threshold=0.8),
    data_parameters={"sessions": SESSIONS},
)


def notebook_splits(seed: int) -> Splits:
    """Simulate the notebook's sessions, and split them as it does: scikit-learn's `train_test_split`, not stratified.

    There is no part for threshold and calibration. A held-out session may equal one trained on: the two attacks are
    always alike.
    """
    sessions = replace(simulated(seed_preset.sessions(SESSIONS, seed)), times_ms=None)
    # The legacy generator is what scikit-learn uses, and its sequences are frozen (NEP 19).
    order, held_out = np.random.RandomState(seed).permutation(SESSIONS), int(np.ceil(SESSIONS * TEST_SHARE))
    return Splits(*(sessions.take(one) for one in (order[held_out:], order[:0], order[:held_out])))
