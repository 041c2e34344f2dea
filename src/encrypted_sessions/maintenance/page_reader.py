"""A store's rows, page by page: as many as a batch holds, fewer where rows are large, none that need not be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial
from typing import NamedTuple

from .._support.shielding import shield
from ..stores.whole import Block, StoredRow
from .operation import Operation
from .run import MOST_BYTES, Run
from .session_filter import SessionFilter

__all__ = ["PageReader", "Unread"]

#: So many rows are read first, and then as many as make MOST_BYTES together.
_FIRST_PAGE = 8


class Sessions(tuple[str, ...]):
    """The first of a block that is no part of the store's own division: the ids of some sessions."""

    __slots__ = ()


class Unread(NamedTuple):
    """So many rows of a block all begin with one of these, and were not read."""

    openings: tuple[str, ...]
    rows: int


_Page = tuple[Block, list[StoredRow] | Unread]


class PageReader:
    """Reads blocks for one run."""

    def __init__(self, run: Run, operation: Operation) -> None:
        self._run = run
        self._operation = operation
        self._count = min(_FIRST_PAGE, run.batch)

    async def blocks(self) -> AsyncGenerator[Block, None]:
        """The whole store, in an order of its own; or the sessions that the run is limited to."""
        only = self._run.settings.only
        if only is not None:
            async with aclosing(self._blocks_of(only)) as some:
                async for block in some:
                    yield block
            return
        blocks = self._run.store.blocks()
        try:
            while True:
                async with self._run.calls.lock:
                    next_block = await anext(blocks, None)
                if next_block is None:
                    return
                yield next_block
        finally:
            if isinstance(blocks, AsyncGenerator):
                await blocks.aclose()

    async def _blocks_of(self, only: SessionFilter) -> AsyncGenerator[Block, None]:
        run = self._run
        async with aclosing(only.present(run.store, run.call)) as groups:
            async for session_ids, missing in groups:
                run.leave_missing(missing)
                if session_ids:
                    yield Block(Sessions(session_ids), None)

    def pages(self, blocks: AsyncGenerator[Block, None]) -> AsyncGenerator[_Page, None]:
        """The rows of these blocks. Where the store can, the next page is read while one is worked on."""
        pages = self._pages(blocks)
        return _one_ahead(pages) if self._run.store.overlaps else pages

    async def pages_of(
        self, block: Block, openings: tuple[str, ...] = ()
    ) -> AsyncGenerator[list[StoredRow] | Unread, None]:
        """The rows of one block, unless every one begins with one of `openings`."""
        run, store = self._run, self._run.store
        count = min(self._count, run.batch)
        rows: list[StoredRow] | int
        if isinstance(block.first, Sessions):
            read = partial(store.rows_of_sessions, block.first)
        else:
            read = partial(store.rows, block)
        if openings and not isinstance(block.first, Sessions):
            rows = await run.call(partial(store.rows_unless, block, openings, count))
        else:
            rows = await run.call(partial(read, None, count))
        if isinstance(rows, int):
            yield Unread(openings, rows)
            return
        while rows:
            size = sum(len(row.data) for row in rows)
            self._count = max(1, min(2 * count, count * MOST_BYTES // max(size, 1)))
            yield rows
            count, last = min(self._count, run.batch), rows[-1]
            del rows  # before others come: they can be large
            rows = await run.call(partial(read, last, count))

    async def _pages(self, blocks: AsyncGenerator[Block, None]) -> AsyncGenerator[_Page, None]:
        async with aclosing(blocks):
            async for block in blocks:
                async with aclosing(self.pages_of(block, self._operation.skipped_openings())) as pages:
                    async for page in pages:
                        yield block, page


async def _one_ahead(pages: AsyncGenerator[_Page, None]) -> AsyncGenerator[_Page, None]:
    coming = asyncio.ensure_future(_next(pages))
    try:
        while (page := await shield(coming)) is not None:
            if _is_large(page):  # two of them at once would be too much
                yield page
                del page
                coming = asyncio.ensure_future(_next(pages))
            else:
                coming = asyncio.ensure_future(_next(pages))
                yield page
    finally:
        # A call of a store is not broken off: it would lose its connection.
        with suppress(Exception):
            await shield(coming)
        await pages.aclose()


async def _next(pages: AsyncGenerator[_Page, None]) -> _Page | None:
    return await anext(pages, None)


def _is_large(page: _Page) -> bool:
    rows = page[1]
    return not isinstance(rows, Unread) and sum(len(row.data) for row in rows) > MOST_BYTES
