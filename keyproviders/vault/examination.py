"""What is worth knowing of a secret and of a token, beyond the keys: sentences for people, and warnings."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .failures import Answer, time_of

if TYPE_CHECKING:
    from .connection import VaultConnection

__all__ = ["duration_text", "login_sentences", "version_sentences"]

# What a server keeps where neither the secret nor its mount says a number.
_KEPT = 10
_ADVISED = 100

_NUMBER = re.compile(r"[1-9][0-9]{0,17}\Z")


def version_sentences(connection: VaultConnection, mount: str, path: str) -> list[str]:
    """How many versions of a secret are kept, and which ones the next write would drop.

    One read of the secret's metadata and one of the mount's configuration, neither of which the
    policy for a provider needs to allow. Raises what a request raises that got no answer.
    """
    found = _asked(connection, f"{mount}/metadata/{path}")
    if not found.ok:
        return [f"How many versions of {mount}/{path} are kept is not known{_why(found, f'{mount}/metadata/{path}')}."]
    config = _asked(connection, f"{mount}/config")
    own, of_mount = _number(found, "max_versions"), _number(config, "max_versions")
    # The larger of the two counts.
    kept = max(own, of_mount) or _KEPT
    sentence = f"{kept} versions of {mount}/{path} are kept"
    if not config.ok:
        sentence += (
            f", unless the mount is configured to keep more, which is not known{_why(config, f'{mount}/config')}"
        )
    newest, versions = _number(found, "current_version"), _left(found)
    if not versions:
        return [f"{sentence}. None of them can be read."]
    oldest = min(versions)
    more = oldest + kept - 1 - newest
    if more > 0:
        sentence += f"; {_writes(more)} can follow before the oldest one, version {oldest}, is dropped"
    else:
        falling = [version for version in sorted(versions) if version <= newest + 1 - kept]
        _warn(
            f"the next write to {mount}/{path} drops version {_listed(falling)} permanently, since {kept} are kept:"
            " rows sealed with it could not be read any more; if there are any, first run: vault kv metadata put"
            f" -mount={mount}"
            f" -max-versions={max(_ADVISED, 2 * kept)} {path}"
        )
    _warn_of_ends(versions, mount, path)
    return [f"{sentence}."]


def login_sentences(connection: VaultConnection) -> list[str]:
    """How long a token is kept. At most one request; raises what a request raises that got no answer."""
    login = connection.login
    if login is None:
        return ["The given client manages its own token."]
    return [login.keeping] if login.keeping is not None else _given_token(connection, login.label)


def _given_token(connection: VaultConnection, label: str) -> list[str]:
    """How long a token lives that nothing can replace."""
    found = _asked(connection, "auth/token/lookup-self")
    if not found.ok:
        why = _why(found, "auth/token/lookup-self, which the policy default allows")
        return [f"How long {label} lives is not known{why}."]
    data = found.part("data")
    policies = data.get("policies")
    if isinstance(policies, list) and "root" in policies:
        _warn(
            f"{label} is a root token, which allows everything; give this process a token that may only read its keys"
        )
    uses = _number(found, "num_uses")
    if uses:
        _warn(f"{label} ends after {uses} more uses, and each request is one use")
    left_s = _number(found, "ttl")
    if not left_s:
        return [f"{label[:1].upper()}{label[1:]} does not expire."]
    instead = "auth=token-file, auth=agent, or a login such as auth=approle"
    left = duration_text(left_s)
    if data.get("renewable") is not True:
        _warn(f"{label} ends in {left} and cannot be renewed, and nothing replaces it; use {instead}")
        return []
    period_s, most_s = _number(found, "period"), _number(found, "explicit_max_ttl")
    life_s = period_s or _number(found, "creation_ttl") or left_s
    upto = "without a maximum" if period_s and not most_s else "up to its maximum life"
    if most_s:
        upto += f" of {duration_text(most_s)}"
    sentence = (
        f"{label[:1].upper()}{label[1:]} ends in {left}. It is renewed while keys are asked for, {upto}; a"
        f" process that is idle for {duration_text(life_s)} loses it and cannot get a new one by itself. For"
        f" services that may be idle that long, use {instead}."
    )
    return [sentence]


def duration_text(seconds: float) -> str:
    """A length of time, in the largest unit that says enough."""
    for unit, length_s in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _asked(connection: VaultConnection, path: str) -> Answer:
    # Without a new login after a denial: it is no news here, and a login may cost a use of a secret id.
    return connection.ask("get", f"/v1/{quote(path, safe='/')}", action=f"reading {path}", again=False)


def _why(answer: Answer, path: str) -> str:
    return f": this needs read on {path}" if answer.denied else f": the server answered {answer.status}"


def _number(answer: Answer, name: str) -> int:
    value = answer.part("data").get(name) if answer.ok else None
    return value if type(value) is int and 0 < value < 10**18 else 0


def _left(answer: Answer) -> dict[int, Mapping[str, Any]]:
    """The versions that are not destroyed, by number."""
    versions = answer.part("data", "versions")
    return {
        int(name): state
        for name, state in versions.items()
        if _NUMBER.match(name) and isinstance(state, dict) and state.get("destroyed") is not True
    }


def _warn_of_ends(versions: Mapping[int, Mapping[str, Any]], mount: str, path: str) -> None:
    """A server can be told to delete each version when it has a certain age; then it knows the time in advance."""
    now = datetime.now(timezone.utc)
    ends = {version: time_of(state.get("deletion_time")) for version, state in versions.items()}
    coming = sorted((end, version) for version, end in ends.items() if end is not None and end > now)
    for end, version in coming[:1]:
        _warn(
            f"the server will delete version {version} of {mount}/{path} at {end:%Y-%m-%d %H:%M} UTC by itself"
            " (delete_version_after): rows sealed with it cannot be read after that"
        )


def _writes(count: int) -> str:
    return "1 more write" if count == 1 else f"{count} more writes"


def _listed(versions: list[int]) -> str:
    shown: Iterator[str] = map(str, versions[:5])
    return ", ".join(shown) + (f" and {len(versions) - 5} more" if len(versions) > 5 else "")


def _warn(problem: str) -> None:
    warnings.warn(problem, stacklevel=3)
