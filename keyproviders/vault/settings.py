"""Where the server is and how it is trusted: from arguments, else from the variables people have."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from .._support.files import read_file
from .._support.transport_security import is_insecure, warn_insecure_transport
from ..errors import ProviderConfigError
from .address import ServerUrl

__all__ = ["Endpoint", "from_environment", "read_endpoint", "refuse_encrypted_key"]

#: To connect, and to wait for an answer as a whole, in seconds.
TIMEOUTS_S = (1.0, 2.0)

_MOST_OF_A_KEY = 65_536

# As the servers' own command-line programs read a flag.
_TRUE = frozenset({"1", "t", "T", "true", "True", "TRUE"})
_FALSE = frozenset({"0", "f", "F", "false", "False", "FALSE"})


@dataclass(frozen=True)
class Endpoint:
    """A server, and what its connections need.

    `also` are further addresses of it that redirects may lead to.
    `ca` is a file or a folder of certificates, None for the ones that come with Python's client,
    or False when nothing is verified. `ca_label` says the same in messages. `timeouts` are
    seconds to connect and to wait, or None where a ready client has its own.
    """

    address: str
    also: tuple[str, ...]
    namespace: str | None
    ca: str | bool | None
    ca_label: str
    client_cert: str | None
    client_key: str | None
    allow_insecure: bool
    timeouts: tuple[float, float] | None = TIMEOUTS_S

    @property
    def origins(self) -> frozenset[str]:
        """Where a redirect may lead to."""
        read = (ServerUrl.read(address) for address in (self.address, *self.also))
        return frozenset(url.origin for url in read if url is not None)

    @property
    def label(self) -> str:
        """For messages."""
        return self.address + (f" (namespace {self.namespace})" if self.namespace else "")


def from_environment(name: str) -> str | None:
    """The variable BAO_name, else VAULT_name. One that is empty counts as not set."""
    return os.environ.get(f"BAO_{name}") or os.environ.get(f"VAULT_{name}") or None


def read_endpoint(
    *,
    address: str | None,
    also_address: tuple[str, ...],
    namespace: str | None,
    ca_cert: str | None,
    client_cert: str | None,
    client_key: str | None,
    allow_insecure: bool,
) -> Endpoint:
    """The endpoint of these arguments, each filled in from the environment as it is now.

    Raises ProviderConfigError; warns when `allow_insecure` lets something through.
    """
    if not (address := address or from_environment("ADDR")):
        raise ProviderConfigError(
            "no address of a Vault or OpenBao server; set VAULT_ADDR (or BAO_ADDR) to it, or give address=,"
            " as in https://vault.example:8200"
        )
    address = _checked_address(address, "the address of the server")
    also = tuple(_checked_address(one, "an address in also_address") for one in also_address)
    ca: str | bool | None
    ca, ca_label = _ca(ca_cert)
    cert = client_cert or from_environment("CLIENT_CERT")
    key = client_key or from_environment("CLIENT_KEY")
    if key and not cert:
        raise ProviderConfigError(
            "a client key was given (client_key, VAULT_CLIENT_KEY) without its certificate; give client_cert too"
        )
    for one in (address, *also):
        if is_insecure(one):
            _only_if_allowed(
                allow_insecure,
                f"{one} is plain http to another machine: anyone on the network path can read the keys; use https",
            )
    if any(one.startswith("https:") for one in (address, *also)) and _skips_verification():
        _only_if_allowed(
            allow_insecure,
            f"the certificate of {address} would not be verified (VAULT_SKIP_VERIFY or BAO_SKIP_VERIFY is set), so"
            " anyone on the network path could supply keys; unset it, and set ca_cert or VAULT_CACERT to the"
            " server's CA",
        )
        ca, ca_label = False, "nothing, since verification is switched off"
    return Endpoint(
        address=address,
        also=also,
        namespace=namespace or from_environment("NAMESPACE"),
        ca=ca,
        ca_label=ca_label,
        client_cert=cert,
        client_key=key,
        allow_insecure=allow_insecure,
    )


def refuse_encrypted_key(path: str | None) -> None:
    """Raise ProviderConfigError for a client key with a passphrase: OpenSSL would ask the terminal for it, and wait."""
    try:
        content = read_file(path, _MOST_OF_A_KEY, what="the client key", secret=False, strict=False) if path else b""
        encrypted = b"ENCRYPTED" in content
    except OSError:
        return  # the client says so when it reads it
    if encrypted:
        raise ProviderConfigError(
            f"the client key in {path} has a passphrase, which cannot be entered here; store it without one, and"
            " let only this process's user read it"
        )


def _checked_address(address: str, what: str) -> str:
    example = "write it as in https://vault.example:8200"
    try:
        parts = urlsplit(address)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        port_is_fine = False
    if not port_is_fine:
        raise ProviderConfigError(f"{what} is not a URL ({len(address)} characters); {example}")
    if parts.username is not None or parts.password is not None:
        raise ProviderConfigError(f"{what} has a user or a password in it; {example}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ProviderConfigError(f"{what} is not an http or https URL ({len(address)} characters); {example}")
    if parts.query or parts.fragment:
        raise ProviderConfigError(f"{what} has a part after '?' or '#'; {example}")
    if ServerUrl.read(address) is None:
        raise ProviderConfigError(
            f"{what} ({len(address)} characters) has characters that the address of a server cannot have, such as"
            " a backslash, a space"
            f" or letters beyond ASCII; {example}"
        )
    return address.rstrip("/")


def _ca(ca_cert: str | None) -> tuple[str | None, str]:
    given = (
        (ca_cert, "ca_cert"),
        (from_environment("CACERT"), "VAULT_CACERT or BAO_CACERT"),
        (from_environment("CAPATH"), "VAULT_CAPATH or BAO_CAPATH"),
        # requests would fall back on these by itself, and then no message could name them.
        (os.environ.get("REQUESTS_CA_BUNDLE"), "REQUESTS_CA_BUNDLE"),
        (os.environ.get("CURL_CA_BUNDLE"), "CURL_CA_BUNDLE"),
    )
    for path, source in given:
        if path:
            return path, f"{path} ({source})"
    return None, "the public CAs that come with requests (no ca_cert, VAULT_CACERT or VAULT_CAPATH was given)"


def _skips_verification() -> bool:
    text = from_environment("SKIP_VERIFY")
    if text is None or text in _FALSE:
        return False
    if text in _TRUE:
        return True
    raise ProviderConfigError(
        f"VAULT_SKIP_VERIFY (or BAO_SKIP_VERIFY) is neither true nor false ({len(text)} characters); unset it"
    )


def _only_if_allowed(allowed: bool, problem: str) -> None:  # noqa: FBT001 - the one thing that it is about
    if not allowed:
        raise ProviderConfigError(f"{problem}; allow_insecure=True in code allows it")
    warn_insecure_transport(problem)
