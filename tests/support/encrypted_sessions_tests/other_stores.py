"""Sessions of the SDK over what is not on every machine: a Sentinel's primary, MongoDB, Dapr.

`open_other(place, session_id)` gives one over a `StoreLocation` of such a kind. Without the URL of a server, MongoDB's
and Dapr's clients are stand-ins whose state lies in the memory of the place.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from .stores import StoreLocation

__all__ = ["OTHER_KINDS", "open_other"]

OTHER_KINDS: Final = ("redis-sentinel", "mongodb", "dapr")


@contextlib.asynccontextmanager
async def open_other(place: StoreLocation, session_id: str, **options: Any) -> AsyncIterator[Any]:
    """A fresh bare session, closed with all it opened at the end. `options` go to the store as they are."""
    async with {"redis-sentinel": _open_watched, "mongodb": _open_mongodb, "dapr": _open_dapr}[place.kind](
        place, session_id, **options
    ) as store:
        yield store


@contextlib.asynccontextmanager
async def _open_watched(place: StoreLocation, session_id: str, **options: Any) -> AsyncIterator[Any]:
    from agents.extensions.memory import RedisSession
    from redis.asyncio.sentinel import Sentinel

    url = urlsplit(place.where)
    assert url.hostname is not None
    assert url.port is not None
    async with contextlib.AsyncExitStack() as stack:
        sentinel = Sentinel([(url.hostname, url.port)], socket_timeout=1.0)
        for watcher in sentinel.sentinels:
            stack.push_async_callback(watcher.aclose)
        client = sentinel.master_for(url.path.removeprefix("/"))
        stack.push_async_callback(client.aclose)
        yield RedisSession(session_id, redis_client=client, key_prefix=place.prefix, **options)


@contextlib.asynccontextmanager
async def _open_mongodb(place: StoreLocation, session_id: str, **options: Any) -> AsyncIterator[Any]:
    from agents.extensions.memory import MongoDBSession

    if not place.where:
        yield MongoDBSession(session_id, client=_Documents(place.memory), **options)  # type: ignore[arg-type] # stands in
        return
    store = MongoDBSession.from_uri(session_id, uri=place.where, database=place.prefix, **options)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def _open_dapr(place: StoreLocation, session_id: str, **options: Any) -> AsyncIterator[Any]:
    from agents.extensions.memory import DaprSession

    client: Any = _States(place.memory)
    yield DaprSession(session_id, state_store_name="statestore", dapr_client=client, **options)


# -- What stands in for MongoDB's client ------------------------------------------------------------


class _Documents:
    """A client of MongoDB with one database, as far as the SDK's session asks for it."""

    def __init__(self, memory: dict[str, list[Any]]) -> None:
        self._memory = memory

    def append_metadata(self, _: object) -> None:
        """There is nobody to tell."""

    def __getitem__(self, database: str) -> dict[str, _Collection]:
        names = ("agent_sessions", "agent_messages")
        return {name: _Collection(self._memory.setdefault(name, [])) for name in names}


class _Collection:
    def __init__(self, documents: list[Any]) -> None:
        self._documents = documents

    def with_options(self, **_: object) -> _Collection:
        return self

    async def create_index(self, *_: object, **__: object) -> None:
        """A list needs none."""

    def find(self, query: dict[str, Any]) -> _Found:
        return _Found(self._matching(query))

    async def insert_one(self, document: dict[str, Any]) -> None:
        self._documents.append({"_id": next(_numbers), **copy.deepcopy(document)})

    async def delete_one(self, query: dict[str, Any]) -> None:
        for document in self._matching(query)[:1]:
            self._documents.remove(document)

    async def delete_many(self, query: dict[str, Any]) -> None:
        for document in self._matching(query):
            self._documents.remove(document)

    async def find_one_and_update(
        self,
        query: dict[str, Any],
        update: dict[str, Any] | list[Any],
        *,
        sort: Iterable[tuple[str, int]] = (),
        upsert: bool = False,
        return_document: bool,
    ) -> dict[str, Any] | None:
        found = _Found(self._matching(query))
        for field, direction in sort:
            found.sort(field, direction)
        documents = found.documents
        is_new = not documents
        if is_new:
            if not upsert:
                return None
            documents = [{"_id": next(_numbers)}]
            self._documents.append(documents[0])
        document = documents[0]
        before = copy.deepcopy(document)
        if isinstance(update, list):
            for stage in update:
                document.update({field: _value(expression, document) for field, expression in stage["$set"].items()})
        else:
            document.update(update["$setOnInsert"] if is_new else {})
            document.update(update["$set"])
            document.update({field: document.get(field, 0) + by for field, by in update["$inc"].items()})
        return copy.deepcopy(document) if return_document else before

    def _matching(self, query: dict[str, Any]) -> list[Any]:
        return [document for document in self._documents if _matches(document, query)]


class _Found:
    def __init__(self, documents: list[Any]) -> None:
        self.documents = documents

    def sort(self, field: str, direction: int) -> _Found:
        self.documents.sort(key=lambda document: document[field], reverse=direction < 0)
        return self

    def limit(self, count: int) -> _Found:
        del self.documents[count:]
        return self

    async def to_list(self) -> list[Any]:
        return copy.deepcopy(self.documents)


_numbers = itertools.count()

_CONDITIONS: dict[str, Callable[[Any, Any], bool]] = {
    "$in": lambda value, wanted: value in wanted,
    "$ne": lambda value, wanted: bool(value != wanted),
    "$lt": lambda value, wanted: value is not None and bool(value < wanted),
    "$exists": lambda value, wanted: (value is not None) == wanted,
}


def _matches(document: dict[str, Any], query: dict[str, Any]) -> bool:
    for field, wanted in query.items():
        value = document.get(field)
        if field == "$or":
            if not any(_matches(document, one) for one in wanted):
                return False
        elif isinstance(wanted, dict):
            if not all(_CONDITIONS[name](value, argument) for name, argument in wanted.items()):
                return False
        elif value != wanted:
            return False
    return True


_OPERATORS: dict[str, Callable[..., Any]] = {
    "$cond": lambda condition, then, otherwise: then if condition else otherwise,
    "$isArray": lambda value: isinstance(value, list),
    "$size": len,
    "$slice": lambda values, count: values[:count],
    "$subtract": lambda left, right: left - right,
}


def _value(expression: Any, document: dict[str, Any]) -> Any:
    """What an expression of an aggregation comes to."""
    if isinstance(expression, str) and expression.startswith("$"):
        return copy.deepcopy(document.get(expression[1:]))
    if not isinstance(expression, dict):
        return expression
    ((name, arguments),) = expression.items()
    given = arguments if isinstance(arguments, list) else [arguments]
    return _OPERATORS[name](*[_value(one, document) for one in given])


# -- What stands in for Dapr's client ---------------------------------------------------------------


class _States:
    """A client of Dapr with one store of states. Each has an etag, which a writer may ask to be unchanged."""

    def __init__(self, memory: dict[str, list[Any]]) -> None:
        self._memory = memory

    async def get_state(self, *, store_name: str, key: str, state_metadata: object) -> Any:
        data, etag = self._memory.get(key, [b"", ""])
        return SimpleNamespace(data=data, etag=etag)

    async def save_state(
        self, *, store_name: str, key: str, value: str, etag: str | None, state_metadata: object, options: object
    ) -> None:
        if etag and etag != self._memory.get(key, [b"", ""])[1]:
            raise RuntimeError("possible etag mismatch. error from state store")
        self._memory[key] = [value.encode("utf-8"), str(next(_numbers))]

    async def delete_state(self, *, store_name: str, key: str, options: object) -> None:
        self._memory.pop(key, None)
