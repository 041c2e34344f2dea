"""What `pydantic_core` does several times faster, where it is installed, as it is with the Agents SDK.

It is never needed. It is asked first, and only for what it gives exactly as the standard library does. What it refuses
goes the other way, which decides.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

__all__ = ["Accelerator", "accelerator"]


class Accelerator:
    """Three functions, which raise ValueError for what they do not take."""

    __slots__ = ("decode_base64", "from_json", "to_json")

    def __init__(
        self,
        from_json: Callable[[bytes], object],
        to_json: Callable[[object], bytes],
        decode_base64: Callable[[bytes], bytes],
    ) -> None:
        #: The value in JSON text, in UTF-8. Lone surrogates are refused, and much nesting.
        self.from_json = from_json
        #: The compact JSON of a value, in UTF-8. Only for exact types of the language: what else it takes, it may
        #: change. Floats are not always written as Python writes them. Lone surrogates are refused.
        self.to_json = to_json
        #: The bytes in base64 of either alphabet, with or without padding, in quotation marks and perhaps with escapes.
        self.decode_base64 = decode_base64


@cache
def accelerator() -> Accelerator | None:
    """The functions; None where `pydantic_core` is not installed, or of a release that does not know what is asked."""
    try:
        from pydantic_core import SchemaValidator, core_schema, from_json, to_json  # noqa: PLC0415 - not required
    except ImportError:
        return None

    def of_json(data: bytes) -> object:  # a partial takes longer
        return from_json(data, allow_inf_nan=False, cache_strings="none")  # the cache would keep texts of items

    validator = SchemaValidator(core_schema.bytes_schema(), core_schema.CoreConfig(val_json_bytes="base64"))
    try:
        works = of_json(b"{}") == {} and validator.validate_json(b'"AA=="') == b"\0" and to_json(()) == b"[]"
    except (TypeError, ValueError):
        return None
    return Accelerator(of_json, to_json, validator.validate_json) if works else None
