"""Keys in the key/value store of Vault or OpenBao, version 2: each version of a secret is a key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .._support.redaction import redact_frames
from .._support.urls import split_url
from ..errors import KeyDestroyedError, KeyDisabledError, KeyNotFoundError, KeyProviderError, ProviderConfigError
from ..key import Key
from ..secret_fields import read_field
from .connection import URL_OPTIONS, URL_REFUSED, VaultConnection
from .examination import login_sentences, version_sentences
from .failures import Answer, failure_of, is_wrong_route, time_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .connection import ConnectionOptions

__all__ = ["VaultKvKeyProvider"]

_FORM = "vault-kv:secret/agents/session-key"
_DEFAULT_MOUNT = "secret"

_VERSION = re.compile(r"[1-9][0-9]{0,17}\Z")
_TOO_LARGE = 10**18
_LONGEST_MOUNT = 200

# So many older versions are tried when the newest ones are deleted; a server keeps 10 by default.
_MOST_STEPS = 32


class VaultKvKeyProvider:
    """The versions of one secret in a KV version 2 mount: `VaultKvKeyProvider("agents/session-key")`.

    As a URL: `vault-kv:secret/agents/session-key` (mount, then path), or
    `vault-kv:agents/session-key?mount=team-a/kv`; the other arguments, except `token`, `secret_id`, `client` and
    `allow_insecure`, are options of the URL.

    The active key is the newest version that is neither deleted nor destroyed; the name of a key is its version
    number. The key is in the field `field`; by default in `key`, or in the only field.

    The server and the login:

    | argument | what it says | else |
    |---|---|---|
    | `address` | `https://host:port` | BAO_ADDR, VAULT_ADDR |
    | `also_address` | one or several that redirects may lead to; commas between them in a URL | none |
    | `namespace` | the namespace | BAO_NAMESPACE, VAULT_NAMESPACE |
    | `ca_cert` | file or folder of the CA | BAO_/VAULT_CACERT, _CAPATH |
    | `client_cert`, `client_key` | files for mutual TLS | BAO_/VAULT_CLIENT_CERT, _CLIENT_KEY |
    | `auth` | token, token-file, agent, approle, kubernetes, jwt or aws | token |
    | `auth_mount` | where the login is mounted | the name of `auth` |
    | `token` | for token | BAO_TOKEN, VAULT_TOKEN, ~/.vault-token |
    | `token_file` | for token-file | |
    | `role_id`, `role_id_file` | for approle | BAO_ROLE_ID, VAULT_ROLE_ID |
    | `secret_id`, `secret_id_file` | for approle | BAO_SECRET_ID, VAULT_SECRET_ID |
    | `role` | for kubernetes, jwt, aws | the login's default role |
    | `jwt_file` | for kubernetes, jwt | the service account's token |
    | `aws_region`, `aws_server_id` | for aws: region of STS, server id header | botocore's settings; none |
    | `client` | a ready hvac.Client, or a function that makes one | |
    | `allow_insecure` | allows plain http and unverified TLS | False |

    The token needs one line of policy: read on `<mount>/data/<path>`. Each call is one request. If the newest version
    is deleted, one more request is made for each older version until one is found, at most 32. Connecting may take 1
    s and the whole answer 2 s.

    Args:
        path: The path of the secret in its mount.
        mount: The mount, of version 2.
        field: The field that holds the key.
        connection: The server and the login, as above.

    Raises:
        TypeError: An argument has the wrong type.
        ProviderConfigError: An argument is invalid, or arguments do not go together.
    """

    # Version numbers begin anew at each path.
    names_are_unique = False

    @redact_frames
    def __init__(
        self,
        path: str,
        *,
        mount: str = _DEFAULT_MOUNT,
        field: str | None = None,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        for name, value in (("path", path), ("mount", mount)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a str, not {type(value).__name__}")
        if field is not None and not isinstance(field, str):
            raise TypeError(f"field must be a str or None, not {type(field).__name__}")
        if field == "":
            raise ProviderConfigError("field is empty; give the name of a field, or leave it out")
        self._mount = _checked_path("the mount", mount)
        self._path = _checked_path("the path", path)
        if self._path.startswith("data/"):
            right = self._path.removeprefix("data/")
            raise ProviderConfigError(
                f"data/ belongs to the API, not to the path of a secret; write"
                f" {_as_url(self._mount, right)}, or VaultKvKeyProvider({right!r}, mount={self._mount!r})"
            )
        self._field = field
        self._connection = VaultConnection(**connection)
        self._api = f"/v1/{quote(self._mount, safe='/')}/data/{quote(self._path, safe='/')}"
        self._is_version_2 = False
        self.place = _as_url(self._mount, self._path)

    @classmethod
    @redact_frames
    def from_url(cls, url: str, *, allow_insecure: bool = False) -> VaultKvKeyProvider:
        """The provider of a `vault-kv:` URL. Raises ProviderConfigError."""
        if not isinstance(url, str):
            raise TypeError(f"url must be a str, not {type(url).__name__}")
        path, options = split_url(url, options=URL_OPTIONS | {"mount", "field"}, refused=URL_REFUSED, form=_FORM)
        if "mount" not in options:
            mount, slash, path = path.partition("/")
            if not slash:
                raise ProviderConfigError(f"a vault-kv: URL needs a mount and a path, as in {_FORM}")
            options["mount"] = mount
        given: dict[str, Any] = {**options, "allow_insecure": allow_insecure}
        return cls(path, **given)

    @redact_frames
    def active(self) -> Key:
        """The newest version that is neither deleted nor destroyed."""
        answer = self._read(None)
        if answer.ok:
            return self._key(answer, None)
        gone = self._gone(answer, None)
        if gone is None:
            raise self._failure(answer, None)
        # The server names the newest version and does not fall back. One request for each older one
        # needs no further line of policy, as one for the metadata would.
        newest = first = _version(answer) or 0
        any_disabled = isinstance(gone, KeyDisabledError)
        for version in range(newest - 1, max(0, newest - 1 - _MOST_STEPS), -1):
            answer = self._read(version)
            if answer.ok:
                return self._key(answer, version)
            older = self._gone(answer, version)
            if older is None:
                if answer.status == 404 and not is_wrong_route(answer):
                    break  # the ones before fell out
                raise self._failure(answer, version)
            first = version
            any_disabled = any_disabled or isinstance(older, KeyDisabledError)
        if first == newest:
            raise gone
        which = f"{self.place} has no key to write with: its versions {first} to {newest} are"
        if any_disabled:
            raise KeyDisabledError(f"{which} deleted or destroyed; undelete one, or write a new one")
        raise KeyDestroyedError(f"{which} destroyed for good; write a new one")

    @redact_frames
    def get(self, name: str) -> Key:
        """The key of that version number."""
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        if not _VERSION.match(name):
            raise KeyNotFoundError(
                f"{self.place} has no key of that name: its names are version numbers, so it was not asked"
            )
        answer = self._read(int(name))
        if answer.ok:
            return self._key(answer, int(name))
        raise self._gone(answer, int(name)) or self._failure(answer, int(name))

    def examine(self) -> list[str]:
        """What is worth knowing about the secret and the login, in sentences, with warnings for what needs attention.

        It makes up to three requests, which the policy need not allow. It raises the error of a request that got no
        answer.
        """
        return [*version_sentences(self._connection, self._mount, self._path), *login_sentences(self._connection)]

    def close(self) -> None:
        """Close the connections and forget the token."""
        self._connection.close()

    def after_fork(self) -> None:
        """In a forked child: do not use the parent's connections. Raises ProviderConfigError for a ready client."""
        self._connection.after_fork()

    def __repr__(self) -> str:
        return f"<VaultKvKeyProvider {self.place}>"

    def _read(self, version: int | None) -> Answer:
        query = "" if version is None else f"?version={version}"
        return self._connection.ask("get", self._api + query, action=self._action(version))

    def _action(self, version: int | None) -> str:
        return f"reading {self.place}" if version is None else f"reading version {version} of {self.place}"

    def _key(self, answer: Answer, asked: int | None) -> Key:
        version, data = _version(answer), answer.part("data").get("data")
        if version is None and answer.part("data") and not answer.part("data", "metadata"):
            raise self._version_1()
        if version is None or not isinstance(data, dict) or asked not in {None, version}:
            raise failure_of(answer, self._action(asked), self._connection.label)
        self._is_version_2 = True
        secret = read_field(data, self._field, f"version {version} of {self.place}")
        return Key(str(version), secret, time_of(answer.part("data", "metadata").get("created_time")))

    def _gone(self, answer: Answer, asked: int | None) -> KeyNotFoundError | None:
        """What a 404 that knows the version says of it."""
        metadata, version = answer.part("data", "metadata"), _version(answer)
        if answer.status != 404 or version is None or asked not in {None, version}:
            return None
        self._is_version_2 = True
        which = f"version {version} of {self.place}"
        if metadata.get("destroyed") is True:
            when = time_of(metadata.get("deletion_time"))
            return KeyDestroyedError(
                f"{which} (made {_time_text(metadata.get('created_time'))}) was destroyed for good"
                + (
                    f" after it was deleted at {when:%Y-%m-%d %H:%M:%S} UTC"
                    if when
                    else "; the server does not record when"
                )
            )
        return KeyDisabledError(
            f"{which} was deleted at {_time_text(metadata.get('deletion_time'))}; to bring it back:"
            f" vault kv undelete -mount={self._mount} -versions={version} {self._path}"
        )

    def _failure(self, answer: Answer, version: int | None) -> KeyProviderError:
        action, server = self._action(version), self._connection.label
        if answer.status != 404:
            advice = (
                f"{self._connection.login_label} may not read it; its policy needs"
                f' path "{self._mount}/data/{self._path}" {{ capabilities = ["read"] }}'
            )
            return failure_of(answer, action, server, advice=advice)
        problem = None if self._is_version_2 else self._look_at_mount()
        if problem is not None:
            return problem
        if is_wrong_route(answer):
            return ProviderConfigError(
                f"{action} at {server}: the server has nothing there ({answer.error_text()}); check the mount"
                f" {self._mount!r} and the namespace"
            )
        if version is None:
            return KeyNotFoundError(
                f"{self.place} does not exist at {server}; create it: vault kv put -mount={self._mount} {self._path}"
                f" {self._field or 'key'}=..."
            )
        return KeyNotFoundError(
            f"{self.place} has no version {version} at {server}; it never existed, or it was dropped when newer ones"
            " were written (max_versions, 10 by default)"
        )

    def _look_at_mount(self) -> KeyProviderError | None:
        """What the mount says is wrong with it, where the token may ask; None when nothing is."""
        path = f"/v1/sys/internal/ui/mounts/{quote(self._mount, safe='/')}/{quote(self._path, safe='/')}"
        try:
            answer = self._connection.ask("get", path, action=f"looking at the mount of {self.place}", again=False)
        except KeyProviderError:
            # The secret is missing either way; this would only have said why.
            return None
        data = answer.part("data")
        kind, mount = data.get("type"), data.get("path")
        if not answer.ok or not isinstance(mount, str) or not isinstance(kind, str):
            return None
        if kind not in {"kv", "generic"}:
            return ProviderConfigError(f"{self._mount} is not a key/value store but a mount of the type {kind[:40]!r}")
        if answer.part("data", "options").get("version") != "2":
            return self._version_1()
        self._is_version_2 = True
        real = mount.strip("/")
        if real == self._mount or len(real) > _LONGEST_MOUNT:
            return None
        rest = f"{self._mount}/{self._path}".removeprefix(real).strip("/").removeprefix("data/")
        return ProviderConfigError(f"the mount is {real}, not {self._mount}; write {_as_url(real, rest)}")

    def _version_1(self) -> ProviderConfigError:
        return ProviderConfigError(
            f"{self._mount} is a key/value store of version 1, which does not keep versions, so a rotation would"
            f" lose the key before it; turn it into version 2: vault kv enable-versioning {self._mount}"
        )


def _checked_path(what: str, path: str) -> str:
    path = path.removesuffix("/")
    parts = path.split("/")
    if any(part in {"", ".", ".."} for part in parts) or not path.isprintable():
        raise ProviderConfigError(
            f"{what} ({len(path)} characters) is not valid: write names with single slashes between them, as in {_FORM}"
        )
    return path


def _as_url(mount: str, path: str) -> str:
    if "/" in mount:
        return f"vault-kv:{quote(path)}?mount={quote(mount)}"
    return f"vault-kv:{quote(mount)}/{quote(path)}"


def _version(answer: Answer) -> int | None:
    version = answer.part("data", "metadata").get("version")
    return version if type(version) is int and 0 < version < _TOO_LARGE else None


def _time_text(text: object) -> str:
    time = time_of(text)
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if time is not None else "an unknown time"
