"""Keys wrapped by the Transit engine of Vault or OpenBao, whose own keys never leave the server."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from urllib.parse import quote

from .._support.redaction import redact_frames
from ..errors import InvalidKeyError, KeyDisabledError, KeyNotFoundError, KeyProviderError, ProviderConfigError
from ..key import try_key_text
from ..secret_fields import read_text
from ..wrapping import (
    WrappedKey,
    arguments_from_options,
    bound_context,
    check_wrapped,
    checked_keks,
    describe_key,
    own_context,
)
from .connection import URL_OPTIONS, URL_REFUSED, VaultConnection
from .failures import Answer, failure_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .connection import ConnectionOptions

__all__ = ["VaultTransitKeyWrapper"]

_DEFAULT_MOUNT = "transit"
_BITS = 256

# What the server itself takes as the name of a key (its GenericNameRegex).
_KEY = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\Z")
# A keyset holds the mount as part of a key-encryption key, which is printable ASCII there.
_MOUNT_PART = re.compile(r"(?!\.{1,2}\Z)[!-.0-~]+\Z")
_CIPHERTEXT = re.compile(r"vault:v([1-9][0-9]{0,8}):([A-Za-z0-9+/]+={0,2})\Z")

# The server's own words, which are all that tells its answers of 400 apart.
_NEEDS_CONTEXT = "missing 'context'"
_NO_KEY = "encryption key not found"
_TOO_OLD = "disallowed by policy (too old)"
_SOFT_DELETED = "soft-deleted key"
_TOO_NEW = "version is too new"
_NOT_AUTHENTIC = "message authentication failed"
_NO_CIPHERTEXT = ("invalid ciphertext", "no prefix")


class _Kek(NamedTuple):
    """A key of Transit: the mount, and the name in it."""

    mount: str
    key: str

    @classmethod
    def read(cls, text: str) -> _Kek | None:
        """The one that a keyset or a setting names as `mount/key`; None when it names none."""
        mount, _, key = text.rpartition("/")
        parts = mount.split("/")
        if not _KEY.match(key) or not all(_MOUNT_PART.match(part) for part in parts):
            return None
        # A key that somebody gives in the place of a name is neither asked for nor shown.
        return None if any(try_key_text(part)[0] for part in (key, *parts)) else cls(mount, key)

    def __str__(self) -> str:
        return f"{self.mount}/{self.key}"

    def path(self, operation: str) -> str:
        """As policies write it."""
        return f"{self.mount}/{operation}/{self.key}"


class VaultTransitKeyWrapper:
    """Wraps the keys of a keyset with a key of a Transit mount: `VaultTransitKeyWrapper("agents")`.

    As a URL: `vault-transit:agents?mount=transit&keyset=file:/etc/agents/keyset.json`; the other arguments, except
    `context`, `token`, `secret_id`, `client` and `allow_insecure`, are options of the URL. Those of the connection
    and the login are as for `VaultKvKeyProvider`.

    The key must be a derived key (`derived=true`): only such a key binds a context. The context is the name and the
    id of the keyset, the name of the key, its time, and what `context` adds.

    Keys that are wrapped by a Transit key other than this one and `also_kek` are refused, except by `rewrap`, which
    accepts any.

    | what | policy: update on |
    |---|---|
    | `unwrap`: all that a service does | `<mount>/decrypt/<key>` |
    | `generate`: create, rotate | `<mount>/datakey/plaintext/<key>` |
    | `rewrap` under a newer version | `<mount>/rewrap/<key>` |
    | `rewrap` from another key | decrypt on that one; datakey/plaintext and encrypt on this one |
    | `rebind`: upgrade | the same, where that one may be this one |

    `unwrap` is one request; so is `rewrap` under the same key, which stays within the server. `generate` is two
    requests: the first asks for a key without a context, which a derived key refuses. Connecting may take 1 s and
    each part of an answer 2 s.

    Args:
        key: The name of the key.
        mount: The mount of Transit.
        context: A mapping of str to str, bound to every key of the keyset as long as the keyset exists.
        also_kek: Other keys, as `mount/key`, that may still wrap keys, while keys are being moved.
        connection: The server and the login, as for `VaultKvKeyProvider`.

    Raises:
        TypeError: An argument has the wrong type.
        ProviderConfigError: An argument is invalid, or arguments do not go together.
    """

    URL_OPTIONS: ClassVar[frozenset[str]] = URL_OPTIONS | {"mount", "also_kek"}
    URL_REFUSED: ClassVar[Mapping[str, str]] = {**URL_REFUSED, "context": "pass it in code"}
    URL_EXAMPLE: ClassVar[str] = "vault-transit:agents"

    @redact_frames
    def __init__(
        self,
        key: str,
        *,
        mount: str = _DEFAULT_MOUNT,
        context: Mapping[str, str] | None = None,
        also_kek: str | tuple[str, ...] = (),
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        for name, value in (("key", key), ("mount", mount)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a str, not {type(value).__name__}")
        if _Kek.read(f"{_DEFAULT_MOUNT}/{key}") is None or "/" in key:
            raise ProviderConfigError(
                f"key ({len(key)} characters) is not the name of a Transit key, as in vault-transit:agents;"
                " give the mount as mount="
            )
        kek = _Kek.read(f"{mount.removesuffix('/')}/{key}")
        if kek is None:
            raise ProviderConfigError(
                f"mount ({len(mount)} characters) is not valid: write names with single slashes between them, as in"
                " mount=team-a/transit"
            )
        self._kek = kek
        self._also = _allowed(also_kek)
        self._context = own_context(context)
        self._connection = VaultConnection(**connection)
        elsewhere = "" if kek.mount == _DEFAULT_MOUNT else f"?mount={quote(kek.mount)}"
        self.place = f"vault-transit:{kek.key}{elsewhere}"

    @classmethod
    @redact_frames
    def from_options(
        cls, path: str, options: Mapping[str, str], *, allow_insecure: bool = False
    ) -> VaultTransitKeyWrapper:
        """The wrapper for the parts of a URL: its path and its options, without the options of the keyset."""
        return cls(path, **arguments_from_options(options), allow_insecure=allow_insecure)

    @redact_frames
    def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        """32 new bytes from the server's own source of randomness, plain and wrapped."""
        bound, action = self._bound(context), f"making {describe_key(context)} with {self.place}"
        self._check_derived(action)
        answer = self._ask("datakey/plaintext", self._kek, {"context": bound, "bits": _BITS}, action)
        ciphertext, _ = self._new_ciphertext(answer, action)
        return self._secret(answer, self._kek, action), WrappedKey(str(self._kek), ciphertext)

    @redact_frames
    def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        """The 32 bytes, if they were wrapped under this context by this key or one of `also_kek`."""
        bound = self._bound(context)
        kek, version = self._allowed_kek(wrapped, context)
        return self._unwrapped(kek, version, wrapped.ciphertext, bound, context)

    @redact_frames
    def rewrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> WrappedKey:
        """The same key, wrapped under the newest version of this key; `wrapped` itself if it is that already.

        Between versions, the plain key stays within the server. Coming from another key, it passes through this
        process.
        """
        bound, action = self._bound(context), f"rewrapping {describe_key(context)} with {self.place}"
        kek, version = _read(wrapped, context)
        if kek == self._kek:
            body = {"ciphertext": wrapped.ciphertext, "context": bound}
            answer = self._ask("rewrap", kek, body, action, version=version)
            ciphertext, new_version = self._new_ciphertext(answer, action)
            return wrapped if new_version <= version else WrappedKey(wrapped.kek, ciphertext)
        # Asked first: where a policy allows it, encrypting makes a key that is not there.
        self._check_derived(action)
        return self._encrypted(self._unwrapped(kek, version, wrapped.ciphertext, bound, context), bound, action)

    @redact_frames
    def rebind(self, wrapped: WrappedKey, old_context: Mapping[str, str], new_context: Mapping[str, str]) -> WrappedKey:
        """The same key, wrapped under another context, if this key or one of `also_kek` wrapped it.

        Transit has no request for that: the plain key passes through this process.
        """
        old, new = self._bound(old_context), self._bound(new_context)
        kek, version = self._allowed_kek(wrapped, old_context)
        action = f"rebinding {describe_key(new_context)} with {self.place}"
        self._check_derived(action)
        return self._encrypted(self._unwrapped(kek, version, wrapped.ciphertext, old, old_context), new, action)

    def close(self) -> None:
        """Close the connections and forget the token."""
        self._connection.close()

    def after_fork(self) -> None:
        """In a forked child: do not use the parent's connections. Raises ProviderConfigError for a ready client."""
        self._connection.after_fork()

    def __repr__(self) -> str:
        return f"<VaultTransitKeyWrapper {self.place}>"

    def _bound(self, context: Mapping[str, str]) -> str:
        """All that is bound, as the server takes it: base64 of JSON with sorted names and no spaces."""
        text = json.dumps(bound_context(self._context, context), sort_keys=True, separators=(",", ":"))
        return base64.b64encode(text.encode("ascii")).decode("ascii")

    def _allowed_kek(self, wrapped: WrappedKey, context: Mapping[str, str]) -> tuple[_Kek, int]:
        """The key that wrapped it, and its version. Refused unless it is this one or one of `also_kek`."""
        kek, version = _read(wrapped, context)
        if kek != self._kek and kek not in self._also:
            allowed = " or ".join(str(one) for one in (self._kek, *self._also))
            raise ProviderConfigError(
                f"{describe_key(context)} is wrapped by {kek}, but {self.place} may only use {allowed}; name"
                f" its key in the URL, or allow it with also_kek={kek}, or move the keyset: encrypted-sessions"
                " keys rewrap"
            )
        return kek, version

    def _encrypted(self, secret: bytes, bound: str, action: str) -> WrappedKey:
        body = {"plaintext": base64.b64encode(secret).decode("ascii"), "context": bound}
        answer = self._ask("encrypt", self._kek, body, action)
        ciphertext, _ = self._new_ciphertext(answer, action)
        return WrappedKey(str(self._kek), ciphertext)

    def _unwrapped(self, kek: _Kek, version: int, ciphertext: str, bound: str, context: Mapping[str, str]) -> bytes:
        action = f"unwrapping {describe_key(context)} with {kek}"
        answer = self._ask("decrypt", kek, {"ciphertext": ciphertext, "context": bound}, action, version=version)
        return self._secret(answer, kek, action)

    def _check_derived(self, action: str) -> None:
        """Refuse a key that ignores the context. It gives a data key without one; a derived key does not."""
        answer = self._send("datakey/plaintext", self._kek, {"context": "", "bits": _BITS}, action)
        if answer.status == 400 and _NEEDS_CONTEXT in answer.error_text():
            return
        if not answer.ok:
            raise self._failure(answer, "datakey/plaintext", self._kek, action, None)
        self._new_ciphertext(answer, action)
        raise ProviderConfigError(
            f"{self._kek} at {self._connection.label} is not a derived key: it does not bind a context, so what it"
            " wraps would open in any keyset and under any name; create a derived key under another name, since"
            " an existing key"
            f" cannot be changed: vault write {self._kek.mount}/keys/NAME derived=true"
        )

    def _ask(
        self, operation: str, kek: _Kek, body: Mapping[str, Any], action: str, *, version: int | None = None
    ) -> Answer:
        answer = self._send(operation, kek, body, action)
        if not answer.ok:
            raise self._failure(answer, operation, kek, action, version)
        return answer

    def _send(self, operation: str, kek: _Kek, body: Mapping[str, Any], action: str) -> Answer:
        path = f"/v1/{quote(kek.path(operation), safe='/')}"
        return self._connection.ask("post", path, action=action, body=body)

    def _secret(self, answer: Answer, kek: _Kek, action: str) -> bytes:
        text = answer.part("data").get("plaintext")
        if not isinstance(text, str):
            raise failure_of(answer, action, self._connection.label)
        return read_text(text, f"what {kek} unwrapped")

    def _new_ciphertext(self, answer: Answer, action: str) -> tuple[str, int]:
        """What the server wrapped, and the version of its key that did."""
        text = answer.part("data").get("ciphertext")
        version = _version(text) if isinstance(text, str) else None
        if not isinstance(text, str) or version is None:
            raise failure_of(answer, action, self._connection.label)
        return text, version

    def _failure(self, answer: Answer, operation: str, kek: _Kek, action: str, version: int | None) -> KeyProviderError:
        """What an answer other than the asked for means. `version` is that of the key which wrapped."""
        detail, server = answer.error_text() or "no message", self._connection.label
        message = f"{action} at {server}: the server answered {answer.status} ({detail})"
        if answer.status == 404:
            return ProviderConfigError(
                f"{message}; there is no Transit at the mount {kek.mount!r}: check the mount, the namespace and the"
                " address"
            )
        if answer.status != 400:
            advice = (
                f"{self._connection.login_label} may not do that; its policy needs"
                f' path "{kek.path(operation)}" {{ capabilities = ["update"] }}'
            )
            return failure_of(answer, action, server, advice=advice)
        config = f"{kek.mount}/keys/{kek.key}"
        if _NO_KEY in detail:
            return KeyNotFoundError(
                f"{message}; {kek} does not exist: check its name, the mount and the namespace; to create"
                f" one: vault write {config} derived=true; what a deleted key wrapped opens only if that key is"
                " restored from a backup"
            )
        if _SOFT_DELETED in detail:
            return KeyDisabledError(f"{message}; to bring it back: bao write -f {config}/soft-delete-restore")
        if _TOO_OLD in detail:
            return KeyDisabledError(
                f"{message}; version {version} of {kek} is below its min_decryption_version; if the version still"
                f" exists, lower that until the keyset is rewrapped: vault write {config}/config"
                f" min_decryption_version={version}"
            )
        if _NOT_AUTHENTIC in detail:
            return InvalidKeyError(
                f"{message}; it was altered, or copied from another keyset or name, or wrapped with another context=,"
                f" or {kek} is a different key here (another server or namespace, or deleted and created again)"
            )
        if _TOO_NEW in detail:
            return InvalidKeyError(
                f"{message}; it was wrapped by version {version} of {kek}, which does not exist here: is this another"
                " server, or one that was restored from an older backup?"
            )
        if any(sign in detail for sign in _NO_CIPHERTEXT):
            return InvalidKeyError(f"{message}; restore the keyset's last good copy")
        return failure_of(answer, action, server)


def _read(wrapped: WrappedKey, context: Mapping[str, str]) -> tuple[_Kek, int]:
    """The key that wrapped it, and its version. Checked before they become part of a path."""
    check_wrapped(wrapped)
    kek = _Kek.read(wrapped.kek)
    if kek is None:
        raise ProviderConfigError(
            f"{describe_key(context)} names a key-encryption key ({len(wrapped.kek)} characters) that does not"
            " belong to Transit, as transit/agents does; was it wrapped by another kind of wrapper?"
        )
    version = _version(wrapped.ciphertext)
    if version is None:
        raise InvalidKeyError(
            f"the wrapped bytes of {describe_key(context)} ({len(wrapped.ciphertext)} characters) are not in Transit's"
            " form, vault:v1: and base64; restore the keyset's last good copy"
        )
    return kek, version


def _version(ciphertext: str) -> int | None:
    """The version of the key in a ciphertext that has the one right form; None for any other text."""
    found = _CIPHERTEXT.match(ciphertext)
    if found is None:
        return None
    try:
        raw = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        return None
    return int(found[1]) if base64.b64encode(raw).decode("ascii") == found[2] else None


def _allowed(also_kek: str | tuple[str, ...]) -> tuple[_Kek, ...]:
    found = []
    for text in checked_keks(also_kek):
        kek = _Kek.read(text)
        if kek is None:
            raise ProviderConfigError(
                f"also_kek has one ({len(text)} characters) that is not a Transit key; write mount and"
                " name, as the keyset does: also_kek=transit/agents"
            )
        found.append(kek)
    return tuple(found)
