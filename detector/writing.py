"""Files that are written whole or not at all, and never over what is read."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import click

Options = Mapping[str, Path | None]
"""Files by the option that names each; none where it was not given."""
_MOST_OF_NAME: Final = 200
"""Of the 255 bytes that a name may have, in letters of ASCII."""


def keep_apart(written: Options, read: Options) -> None:
    """Refuse a file to be written that is another's, or one that is read.

    Raises:
        click.UsageError: two options name one file.
    """
    seen: dict[Path, str] = {path.resolve(): name for name, path in read.items() if path is not None}
    for name, path in written.items():
        if path is None or (path.exists() and not path.is_file()):
            continue
        for known, other in seen.items():
            if known == path.resolve() or (path.exists() and known.exists() and path.samefile(known)):
                raise click.UsageError(
                    f"{name} and {other} are one file, {path}: expected another for {name}"
                )
        seen[path.resolve()] = name


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its place once the block has ended well: half of one would pass for all of it.

    What is there and no regular file, a pipe, is written as it is; so is what the system gives out as a file, as
    /dev/stdout. A link stays one: what it leads to is written.

    Raises:
        OSError: it can't be written.
    """
    if path.is_relative_to("/dev") or (path.exists() and not path.is_file()):
        with path.open("wb") as file:
            yield file
        return
    path = path.resolve()
    partial = path.with_name(f"{path.name[:_MOST_OF_NAME]}.{os.getpid()}.partial")
    with partial.open("xb") as file:  # never what is there: it may be what is read
        try:
            yield file
            file.close()
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
