"""What may be written to a terminal: ids come from anybody who may write events, and a terminal obeys control codes."""


def printable(text: str) -> str:
    """Return `text` with what no one can see, control codes among it, as backslash escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
