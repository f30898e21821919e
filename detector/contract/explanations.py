"""The explanation of an alert: computed from it on demand, by the model that it names."""

from typing import Annotated

import msgspec

from detector.contract.alerts import GapRange, ModelReference


class PartValue(msgspec.Struct, frozen=True, kw_only=True):
    """What a part of an action added to the score: the action itself, its time, or what its signals tell of a thing."""

    part: Annotated[str, msgspec.Meta(description="in words")]
    value: float


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """What one action of the window, and the gap before it, added to the score."""

    action: str
    gap_range_ms: Annotated[GapRange | None, msgspec.Meta(description="as the alert has it")]
    value: Annotated[float, msgspec.Meta(description="Shapley value: negative if the action lowers the risk")]
    gap_value: Annotated[
        float | None, msgspec.Meta(description="the score less its mean over other gaps in this one's place")
    ]
    parts: Annotated[
        list[PartValue] | msgspec.UnsetType,
        msgspec.Meta(
            description="the value shared out among the action's parts, estimated, the weightiest first. Of the weightiest "
            "actions alone; absent for others, and if the model reads no signals"
        ),
    ] = msgspec.UNSET


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What each action of an alert's window added to its score. The same alert and model give the same bits."""

    alert_id: Annotated[str, msgspec.Meta(description="the alert's")]
    model: ModelReference
    score: Annotated[
        float, msgspec.Meta(ge=0, le=1, description="of the session, as the model computes it here")
    ]
    baseline: Annotated[
        float, msgspec.Meta(ge=0, le=1, description="the score without the actions explained")
    ]
    attributions: Annotated[
        list[Attribution],
        msgspec.Meta(description="of the window's last actions; the values sum to score minus baseline"),
    ]
    exact: Annotated[
        bool, msgspec.Meta(description="true: from all coalitions; false: estimated from a sample of them")
    ]
    explanation: Annotated[
        list[str], msgspec.Meta(description="for people: what mattered most, the weightiest first")
    ]
    carried_value: Annotated[
        float | msgspec.UnsetType,
        msgspec.Meta(
            description="the score less what it would be with nothing carried over from the session's earlier "
            "actions, which the baseline holds. Absent if the model carries nothing"
        ),
    ] = msgspec.UNSET
