"""Labels: the truth of sessions, JSON lines beside a recording of their events. Never published with the events."""

from collections.abc import Iterable
from typing import Annotated

import msgspec


class SessionLabel(msgspec.Struct, frozen=True, kw_only=True):
    """The truth of one session, a line of a label file; what else the line says is ignored.

    Attributes:
        session_id: of the session.
        label: 1 for an attack, 0 otherwise.
        type: the lawful kind or the attack family.
        customer_type: of the simulator.
        actions: how many actions the session has.
        attack_from: index of the first action that is the attacker's; 0 is assumed where an attack does not say.
    """

    session_id: str
    label: Annotated[int, msgspec.Meta(ge=0, le=1)]
    type: str = ""
    customer_type: str = ""
    actions: int | None = None
    attack_from: int | None = None


class LabelsRefusedError(ValueError):
    """A line is no label. The message names it."""


_DECODER = msgspec.json.Decoder(SessionLabel)
_ENCODER = msgspec.json.Encoder()


def encode_label(label: SessionLabel) -> bytes:
    """Encode one label as JSON (UTF-8)."""
    return _ENCODER.encode(label)


def labels_of(lines: Iterable[bytes], name: str) -> dict[str, SessionLabel]:
    """Decode the lines of a label file, by session; of two on one session the later holds.

    Args:
        lines: of the file.
        name: of the file, for the message.

    Raises:
        LabelsRefusedError: a line is no label.
    """
    labels = {}
    for number, line in enumerate(lines, start=1):
        try:
            label = _DECODER.decode(line)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise LabelsRefusedError(
                f"{name}, line {number}: {error}. Expected a label such as "
                '{"session_id": "s1", "label": 1, "type": "quick_drain"}, one a line; type, customer_type and attack_from '
                "where they are known"
            ) from error
        labels[label.session_id] = label
    return labels
