"""The notebook's training, as a configuration of ours."""

from typing import Final

from detector.contract.actions import Action
from detector.core.encoding import Encoding
from trainer.data.windows import Weighing
from trainer.training.calibration import Wanted
from trainer.training.config import TrainingConfig
from trainer.training.defaults import Schedule
from trainer.training.network import Shape

SESSIONS: Final = 11_000
TEST_SHARE: Final = 0.2
NOTEBOOK: Final = TrainingConfig(
    preset="seed",
    name="seed-lstm",
    version="1",
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
