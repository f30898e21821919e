"""Pseudonyms: what stands for the id of a session or an account in the log."""

import hashlib
import secrets
from pathlib import Path
from typing import Final

_MIN_KEY_BYTES: Final = 16
_DIGEST_BYTES: Final = 8


class KeyRefusedError(ValueError):
    """The key can't be used. The message says what was seen and what was expected."""


class Pseudonyms:
    """A keyed hash of ids (BLAKE2b, RFC 7693): alike for the same id and key, and worth nothing without the key.

    Ids are few enough to be tried one after the other, which is why the hash is keyed.

    Args:
        key: 16 to 64 bytes.

    Raises:
        KeyRefusedError: it is shorter or longer.
    """

    def __init__(self, key: bytes) -> None:
        if not _MIN_KEY_BYTES <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
            raise KeyRefusedError(
                f"the key has {len(key)} bytes: expected {_MIN_KEY_BYTES} to {hashlib.blake2b.MAX_KEY_SIZE}, random ones"
            )
        self._key = key

    @classmethod
    def from_file(cls, path: Path | None) -> "Pseudonyms":
        """Return those of a key file, whose trailing line end does not count; without one, of a key made up now.

        Raises:
            KeyRefusedError: the file can't be read, or holds no such key.
        """
        if path is None:
            return cls(secrets.token_bytes(_MIN_KEY_BYTES))
        try:
            return cls(path.read_bytes().rstrip(b"\r\n"))
        except OSError as error:
            raise KeyRefusedError(
                f"the key file {path} can't be read: {error.strerror}. Expected a file of {_MIN_KEY_BYTES} random "
                "bytes or more"
            ) from error
        except KeyRefusedError as error:
            raise KeyRefusedError(f"{path}: {error}") from None

    def of(self, identifier: str) -> str:
        """Return the pseudonym of an id: 16 hexadecimal digits."""
        return hashlib.blake2b(
            identifier.encode("utf-8", "surrogatepass"), key=self._key, digest_size=_DIGEST_BYTES
        ).hexdigest()
