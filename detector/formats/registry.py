"""Confluent's wire format: a byte 0, the id of a schema in four bytes, and what is written by that schema.

The schema is a Schema Registry's, Confluent's or another that answers as it does (`/schemas/ids/ID`). Under an id it is
the same for ever, so that each is asked for once.
"""

import os
import ssl
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import quote

import msgspec
from kafka.errors import RetriableError

from detector.connection import secret
from detector.contract.events import MalformedEventError
from detector.formats.avro import avro_reader
from detector.formats.protobuf import protobuf_reader

MAGIC: Final = b"\0"
"""Begins such a value, and no JSON."""
_PREFIX_BYTES: Final = 5
_TIMEOUT_S: Final = 5.0
_PAUSES_S: Final = (1.0, 2.0)
"""Between attempts, within which a worker stays in its group; after the last one it waits in the way of its recoveries."""
_AGAIN_S: Final = 30.0
"""A schema that is not known, or of no use, is not asked for again so soon: there may be one for each record."""
_MAX_UNKNOWN: Final = 10_000
_NOT_FOUND: Final = 404
_MAX_ID: Final = 2**31 - 1
"""Of Confluent's, whose path takes no larger one: not found then says that there is none, by whatever code."""
_NO_SUCH: Final = {40401, 40402, 40403}
"""Confluent's codes for a subject, a version and a schema that is not there; what else is not found is a wrong URL."""

Reader = Callable[[bytes], bytes]
"""From what is behind the prefix to JSON."""


class UnknownSchemaError(MalformedEventError):
    """There is no schema of the id, or no registry to ask. The message says which one."""


class RegistryError(RetriableError):  # type: ignore[misc]  # kafka-python is untyped
    """The registry can't be asked. That is no fault of the record, which must wait: nothing is known of it.

    It is a KafkaError that a retry may mend, so whoever recovers from those, or reports them, does so with it.
    """


class _Answer(msgspec.Struct):
    schema: str
    schema_type: str = msgspec.field(name="schemaType", default="AVRO")
    references: list[dict[str, Any]] = []


class Registry:
    """The readers of a registry's schemas.

    Args:
        url: of the registry. A user and a password in it are sent and not told.
        environment: where the rest of the access to it is named, see `registry_in_use`.

    Raises:
        RegistryError: the extra is not installed, or URL or file is none.
    """

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        if missing := [name for name in ("fastavro", "grpc_tools", "httpx2") if find_spec(name) is None]:
            raise RegistryError(
                f"SCHEMA_REGISTRY_URL is set, and {', '.join(missing)} not installed: expected the extra 'registry', as by "
                "`pip install session-fraud-detector[registry]`"
            )
        import httpx2  # noqa: PLC0415  what most do without

        ca_file, user = (environment.get(f"SCHEMA_REGISTRY_{name}") for name in ("CA_FILE", "USERNAME"))
        auth = (user, str(secret("SCHEMA_REGISTRY_PASSWORD", environment))) if user else None
        try:
            where, authorities = httpx2.URL(url), ssl.create_default_context(cafile=ca_file or None)
        except (httpx2.InvalidURL, OSError) as error:
            raise RegistryError(
                f"SCHEMA_REGISTRY_URL or SCHEMA_REGISTRY_CA_FILE is none ({error}): expected http://HOST:PORT, and a file in PEM"
            ) from error
        if where.userinfo:  # which httpx2 would write into its log
            auth = where.username, where.password
        self._host, self._failed = where.host, httpx2.HTTPError
        self._client = httpx2.Client(
            base_url=where.copy_with(userinfo=b""), auth=auth, verify=authorities, timeout=_TIMEOUT_S
        )
        self._readers = dict[int, Reader]()
        self._unknown = dict[int, tuple[str, float]]()

    def reader(self, schema_id: int) -> Reader:
        """Return what reads values of a schema.

        Raises:
            UnknownSchemaError: there is none of the id, or none that can be read.
            RegistryError: the registry can't be asked.
        """
        if (reader := self._readers.get(schema_id)) is not None:
            return reader
        why, until_s = self._unknown.get(schema_id, ("", 0.0))
        if until_s > time.monotonic():
            raise UnknownSchemaError(why)
        try:
            reader = self._readers[schema_id] = self._asked(schema_id)
        except UnknownSchemaError as error:
            if len(self._unknown) >= _MAX_UNKNOWN:
                self._unknown.clear()
            self._unknown[schema_id] = str(error), time.monotonic() + _AGAIN_S
            raise
        return reader

    def _asked(self, schema_id: int) -> Reader:
        found = self._get(f"schemas/ids/{schema_id}", may_have_no_code=schema_id > _MAX_ID)
        if found is None:
            raise UnknownSchemaError(f"schema {schema_id}: the registry at {self._host} has none of this id")
        try:
            if found.schema_type == "AVRO":
                return avro_reader(found.schema, self._referred(found).values())
            if found.schema_type == "PROTOBUF":
                return protobuf_reader(found.schema, self._referred(found))
        except RegistryError:
            raise
        except OSError as error:  # no fault of the schema's either
            raise RegistryError(
                f"schema {schema_id} can't be compiled here: {error}; expected a folder for temporary files, as TMPDIR names one"
            ) from error
        except Exception as error:
            raise UnknownSchemaError(
                f"schema {schema_id}, {found.schema_type}: it can't be read ({type(error).__name__}: {error})"
            ) from error
        if found.schema_type == "JSON":
            return bytes
        raise UnknownSchemaError(
            f"schema {schema_id} is of type {found.schema_type}: expected AVRO, PROTOBUF or JSON"
        )

    def _referred(self, one: _Answer) -> dict[str, str]:
        """Return the schemas that one refers to, by the names that it does so under, those that others need before them."""
        found: dict[str, str] = {}
        for to in one.references:
            answer = self._get(f"subjects/{quote(to['subject'], safe='')}/versions/{to['version']}")
            if answer is None:
                raise UnknownSchemaError(
                    f"{to['subject']}, version {to['version']}, which it refers to, is not there"
                )
            found |= {**self._referred(answer), to["name"]: answer.schema}
        return found

    def _get(self, path: str, *, may_have_no_code: bool = False) -> _Answer | None:
        """Return the registry's answer, None if it has no such schema."""
        for pause_s in (*_PAUSES_S, 0.0):
            told = ""
            try:
                answer = self._client.get(path)
                if answer.is_success:
                    return msgspec.json.decode(answer.content, type=_Answer)
                told = f"answers {answer.status_code} to {path}"
                if answer.status_code == _NOT_FOUND and (
                    may_have_no_code or answer.json()["error_code"] in _NO_SUCH
                ):
                    return None
            except (self._failed, ValueError, LookupError, TypeError) as error:
                told = told or f"does not answer as one ({type(error).__name__})"
            time.sleep(pause_s)
        raise RegistryError(
            f"the schema registry at {self._host} {told}: expected schemas; check SCHEMA_REGISTRY_URL, and who may read "
            "there. Events wait until it answers"
        )


@cache
def registry_in_use() -> Registry | None:
    """Return the registry of SCHEMA_REGISTRY_URL, with SCHEMA_REGISTRY_USERNAME, _PASSWORD or _PASSWORD_FILE, _CA_FILE.

    Raises:
        RegistryError: one is named, and the extra is not installed.
    """
    url = os.environ.get("SCHEMA_REGISTRY_URL")
    return Registry(url, os.environ) if url else None


def unframed(value: bytes) -> bytes:
    """Return what is behind the prefix, as JSON.

    Raises:
        MalformedEventError: it is not what its schema says.
        UnknownSchemaError: there is no such schema, or no registry to ask for it.
        RegistryError: the registry can't be asked.
    """
    schema_id, content = int.from_bytes(value[1:_PREFIX_BYTES]), value[_PREFIX_BYTES:]
    registry = registry_in_use()
    if registry is not None:
        return registry.reader(schema_id)(content)
    if content[:1] == b"{":
        return content
    raise UnknownSchemaError(
        f"schema {schema_id}, and no JSON behind the prefix: expected SCHEMA_REGISTRY_URL to name the registry"
    )
