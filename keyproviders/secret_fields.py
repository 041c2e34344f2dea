"""From the fields of a stored secret to the 32 bytes of a key."""

from __future__ import annotations

from collections.abc import Mapping

from ._support.redaction import redact_frames
from .errors import InvalidKeyError
from .key import decode_key_text

__all__ = ["DEFAULT_FIELD", "read_field", "read_text"]

DEFAULT_FIELD = "key"

_SHOWN_NAMES = 10
_LONGEST_NAME = 40


@redact_frames
def read_field(fields: Mapping[str, object], field: str | None, where: str) -> bytes:
    """The key in a secret of several fields.

    Without `field` it is in the field `key`, or in the only one. `where` names the secret and
    its version in messages. Raises InvalidKeyError, which names the field and what was found: its
    kind and length, never a part of it.
    """
    name = field
    if name is None:
        name = DEFAULT_FIELD if DEFAULT_FIELD in fields or len(fields) != 1 else next(iter(fields))
    if name not in fields:
        wanted = f"no field {name!r}" + ("" if field is not None else ", and more than one field")
        raise InvalidKeyError(
            f"{where} has {wanted}; it has {_names(fields)}; put the key into the field {name!r},"
            " or name its field with field="
        )
    value = fields[name]
    if not isinstance(value, str):
        raise InvalidKeyError(
            f"the field {name!r} of {where} is not a key: it holds {_kind(value)} instead of text; store 32 bytes"
            " as base64,"
            " such as `encrypted-sessions keygen` prints"
        )
    return read_text(value, f"the field {name!r} of {where}")


@redact_frames
def read_text(text: str, where: str) -> bytes:
    """The key that a text is. Raises InvalidKeyError with the length of what was found."""
    try:
        return decode_key_text(text)
    except InvalidKeyError as error:
        problem = str(error).removeprefix("key text is not a key: ")
    raise InvalidKeyError(f"{where} ({len(text)} characters) is not a key: {problem}")


def _names(fields: Mapping[str, object]) -> str:
    if not fields:
        return "no fields"
    # A name that is too long to be one may be a key that somebody took for a name.
    shown = [repr(name) if len(name) <= _LONGEST_NAME else f"one of {len(name)} characters" for name in fields]
    more = len(shown) - _SHOWN_NAMES
    return ", ".join(shown[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    return "a list" if isinstance(value, list) else "an object"
