"""The built-in actions of a session and their codes.

A model carries its own vocabulary; this one is the seed preset's and the simulator's. Code 0 pads a window.
"""

from enum import StrEnum

PAD_CODE = 0


class Action(StrEnum):
    """A user action, in code order: the first has code 1."""

    LOGIN = "LOGIN"
    VIEW_BALANCE = "VIEW_BALANCE"
    VIEW_TRANSACTIONS = "VIEW_TRANSACTIONS"
    TRANSFER_SMALL = "TRANSFER_SMALL"  # under 500 dollars
    TRANSFER_LARGE = "TRANSFER_LARGE"  # over 10,000 dollars
    CHANGE_PASSWORD = "CHANGE_PASSWORD"  # noqa: S105  an action's name, not a secret
    ADD_RECIPIENT = "ADD_RECIPIENT"
    LOGOUT = "LOGOUT"


ENDS_SESSION = (Action.LOGOUT.value,)
MOVES_MONEY = (Action.TRANSFER_SMALL.value, Action.TRANSFER_LARGE.value)
LARGE_MONEY = (Action.TRANSFER_LARGE.value,)
"""What the built-in actions mean, and those of model files that don't say."""


class StepUp(StrEnum):
    """What came of a second factor that a session was asked for."""

    PASSED = "passed"
    FAILED = "failed"


STEP_UP_ACTIONS = {"STEP_UP_PASSED": StepUp.PASSED, "STEP_UP_FAILED": StepUp.FAILED}
"""How the events are called that tell it, unless the settings say otherwise."""

ACTION_CODES: dict[str, int] = {action.value: code for code, action in enumerate(Action, start=1)}
"""Code of each action: LOGIN 1, VIEW_BALANCE 2, … LOGOUT 8."""
