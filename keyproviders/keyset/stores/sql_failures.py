"""What a database, or the way to it, can answer: told apart here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from ...errors import InvalidKeyError, KeyAccessDeniedError, KeyProviderError, KeyUnavailableError, ProviderConfigError

__all__ = ["FailureKind", "classify", "driver_message", "failure_of"]

#: `exists`: the table is already there. `first`: somebody else's write came first.
FailureKind = Literal["no table", "exists", "first", "damaged", "unavailable", "denied", "config"]

# SQLSTATEs of PostgreSQL (its manual, appendix A), or classes of them, where the class of the error says
# less: drivers make an OperationalError also of a login that was refused.
_SQLSTATES: Mapping[str, FailureKind] = {
    "42P01": "no table",
    "42P07": "exists",
    "42710": "exists",
    "23505": "first",
    "40001": "first",
    "42501": "denied",
    "28": "denied",
}
# A connection that is refused has no SQLSTATE in psycopg, only libpq's words and the server's.
_WORDS_OF_POSTGRESQL: tuple[tuple[str, FailureKind], ...] = (
    ("authentication failed|no password supplied|pg_hba|not permitted to log in|permission denied", "denied"),
    (r"(role|user) .* does not exist", "denied"),
    ("database .* does not exist|does not support SSL|certificate|sslmode|root.crt", "config"),
    ("invalid .*(option|value)|missing .* in connection|unsupported startup parameter", "config"),
)

# Error numbers of MariaDB (its documentation, "MariaDB Error Codes"); from 2000 on they are the client's.
_NUMBERS: Mapping[int, FailureKind] = {
    **dict.fromkeys((1146,), "no table"),
    **dict.fromkeys((1050,), "exists"),
    **dict.fromkeys((1020, 1062), "first"),
    **dict.fromkeys((1044, 1045, 1130, 1142, 1143, 1227, 1370, 1698, 1820, 1862, 4151), "denied"),
    **dict.fromkeys((1021, 1037, 1040, 1041, 1047, 1053, 1114, 1129, 1152, 1158, 1159, 1160, 1161), "unavailable"),
    **dict.fromkeys((1180, 1203, 1205, 1213, 1226, 1290, 1317, 1836, 1927, 1969, 3024), "unavailable"),
    **dict.fromkeys((2002, 2003, 2005, 2006, 2012, 2013, 2014, 2027, 2055), "unavailable"),
}

# SQLite's words (its source, sqlite3ErrStr): Python tells its numbers only from 3.11 on.
_WORDS_OF_SQLITE: tuple[tuple[str, FailureKind], ...] = (
    ("no such table", "no table"),
    ("already exists", "exists"),
    ("could not decode", "damaged"),
    ("UNIQUE constraint failed", "first"),
    ("locked|disk I/O error|disk is full|locking protocol|interrupted", "unavailable"),
    ("readonly|unable to open|access permission denied|authorized", "denied"),
)


def classify(error: Exception, family: str) -> FailureKind:
    """What an error of SQLAlchemy or of a driver means. `family` is `postgresql`, `mysql` or `sqlite`."""
    orig = _driver_error(error)
    if family == "sqlite":
        return _first(_WORDS_OF_SQLITE, str(orig)) or "config"
    if family == "mysql":
        number = orig.args[0] if orig.args else None
        if isinstance(number, int) and number > 0:
            # The driver says of a certificate, too, that it could not connect.
            return "config" if "CERTIFICATE" in str(orig) else _NUMBERS.get(number, "config")
        return _by_class(orig)
    state = str(getattr(orig, "sqlstate", None) or getattr(orig, "pgcode", None) or "")
    known = _SQLSTATES.get(state) or _SQLSTATES.get(state[:2]) if state else _first(_WORDS_OF_POSTGRESQL, str(orig))
    return known or _by_class(orig)


def driver_message(error: Exception) -> str:
    """What the driver said."""
    orig = _driver_error(error)
    if len(orig.args) == 2 and isinstance(orig.args[0], int):
        return f"{orig.args[0]}: {orig.args[1]}"
    return str(orig)


def failure_of(
    error: Exception, kind: FailureKind, action: str, detail: str, *, begun: bool = False
) -> KeyProviderError:
    """The error to raise. `action` says what was asked for and of whom.

    `detail` is what the driver said, in one line without a secret. `begun`: a change was under way.
    """
    message = f"{action}: {type(_driver_error(error)).__name__} ({detail})"
    if kind == "damaged":
        return InvalidKeyError(f"{message}; the stored keyset is damaged: restore its last good copy")
    if kind == "unavailable":
        return KeyUnavailableError(
            message + ("; the change may have been made anyway: check before you repeat it" if begun else "")
        )
    if kind == "denied":
        return KeyAccessDeniedError(
            f"{message}; check the user of the DSN, its password and rights, or the file's owner"
        )
    return ProviderConfigError(f"{message}; a retry will not help: check the DSN, and what is stored there")


def _driver_error(error: Exception) -> Any:
    """The driver's own error in one of SQLAlchemy's."""
    return getattr(error, "orig", None) or error


def _by_class(error: Exception) -> FailureKind:
    """What the classes say that all drivers share (PEP 249): the connection or the server, or a mistake."""
    broken = {"OperationalError", "InterfaceError", "InternalError", "ConnectionTimeout"}
    return "unavailable" if broken.intersection(kind.__name__ for kind in type(error).__mro__) else "config"


def _first(words: tuple[tuple[str, FailureKind], ...], detail: str) -> FailureKind | None:
    return next((kind for pattern, kind in words if re.search(pattern, detail, re.IGNORECASE)), None)
