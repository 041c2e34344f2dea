"""Whether nothing depends on certain keys: what somebody asks before a key is destroyed, and a pipeline goes by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from keyproviders import KeyProviderError

from .._support.similar import did_you_mean
from ..core.kids import shown_kid
from .key_uses import of_further_keys
from .keys import StoreKeys
from .reports import Group, KeyUse
from .run import Run

__all__ = ["WantedKids", "free_kids", "why_not_free"]

#: Reasons for which rows are left that may need any key.
_IN_DOUBT = ("key_not_answered", "key_not_asked", "late_key", "mislabelled", "too_large", "unauthentic")

#: What a place says of a key that it knows, beside the key itself.
_KNOWN = ("erased", "key_disabled")


class WantedKids:
    """The kids that are to be free, and whether any place knows them."""

    def __init__(self, kids: Sequence[str], keys: StoreKeys | None) -> None:
        self.kids = kids
        self._keys = keys
        self._unknown: dict[str, str] | None = None

    async def ask(self) -> None:
        """Ask for each once. Then its key is at hand, and rows of other labels are tried with it, too."""
        if self._unknown is not None or self._keys is None:
            return
        self._unknown = {}
        for kid in self.kids:
            answer = await self._keys.answer(kid)
            if isinstance(answer, str) and answer not in _KNOWN:
                self._unknown[kid] = (
                    "no place of keys that was asked has it"
                    if answer == "unknown_key"
                    else "its place of keys did not answer"
                )

    async def unknown(self) -> Mapping[str, str]:
        """Those that no place knows, and why that is said of them."""
        try:
            await self.ask()
        except KeyProviderError as error:
            return dict.fromkeys(self.kids, str(error))
        return self._unknown or {}


def free_kids(run: Run, groups: Iterable[Group], uses: Iterable[KeyUse]) -> tuple[str, ...]:
    """The keys that nothing depends on, as far as these are all that anything can depend on; else none."""
    if run.keys is None or _doubt(run, groups) is not None:
        return ()
    return tuple(use.kid for use in uses if _need(use) is None)


async def why_not_free(run: Run, wanted: WantedKids, groups: Iterable[Group], uses: Iterable[KeyUse]) -> dict[str, str]:
    """By kid, why it cannot be said that nothing depends on it. A kid that nobody knows is never free."""
    unknown, use_of = await wanted.unknown(), {use.kid: use for use in uses}
    in_general = _doubt(run, groups)
    found = {}
    for kid in wanted.kids:
        use = use_of.get(kid)
        reason = unknown.get(kid) or _need(use) or in_general
        if kid in unknown:
            reason = f"{reason}{did_you_mean(kid, use_of, within=True)}"
        if reason is not None:
            found[shown_kid(kid) or kid] = reason
    return found


def _need(use: KeyUse | None) -> str | None:
    if use is None:
        return None
    if use.active:
        return "it is the active key"
    if use.needed_by:
        return f"{use.needed_by:,} row{' needs' if use.needed_by == 1 else 's need'} it"
    if use.unproven:
        return f"{use.unproven:,} row{' names' if use.unproven == 1 else 's name'} it and could not be opened"
    return None


def _doubt(run: Run, groups: Iterable[Group]) -> str | None:
    """What leaves it open for any key."""
    if run.stopped is not None:
        return "the run did not read the whole store"
    if run.settings.is_limited:
        return "only some rows were read, as requested"
    doubtful = {reason: run.left.get(reason, 0) for reason in _IN_DOUBT}
    doubtful |= {"unsupported": run.found.get("unsupported", 0), "of further keys": of_further_keys(groups)}
    rows = ", ".join(f"{count:,} {reason}" for reason, count in doubtful.items() if count)
    if rows:
        return f"it is not known which key some rows need ({rows})"
    if any(not replica.replayed for replica in run.replicas):
        return "a replica has an older state of the store"
    return None
