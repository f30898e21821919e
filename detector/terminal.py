"""What may be written to a terminal: ids come from anybody who may write events, and a terminal obeys control codes."""

from collections.abc import Sequence

_SHOWN_REASONS = 3


def because(explanation: Sequence[str]) -> str:
    """Return what is put behind a line to say what weighed most."""
    return f" | {'; '.join(explanation[:_SHOWN_REASONS])}" if explanation else ""


def printable(text: str) -> str:
    """Return `text` with what no one can see, control codes among it, as backslash escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
