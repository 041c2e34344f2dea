"""What goes in comes out, equal and of the same types; anything else is refused."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import json
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from encrypted_sessions.core.exact_json import (
    MAX_DEPTH,
    NotJsonError,
    TooLongError,
    decode_item,
    decode_json,
    encode_item,
)
from encrypted_sessions_tests.json_values import bad_items, given_back, items, same, texts
from encrypted_sessions_tests.soak import examples

#: Brackets in little text, and much text in few brackets: which checks are quicker depends on that.
SHAPES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "with many brackets": {"more": [[[], {}, [{}]]] * 10},
    "with more brackets than are looked at at first": {"more": [[]] * (MAX_DEPTH + 1)},
    "with much text": {"more": "word " * 500},
    "with much text within": {"more": ["word " * 500]},
    "with text beyond ASCII": {"more": "caf\u00e9"},
    "with more elements than are not counted": {"more": [0] * 5_000},
}


@pytest.mark.parametrize("more", SHAPES.values(), ids=SHAPES)
@given(item=items())
def test_an_allowed_item_comes_back_exactly(more: dict[str, Any], item: dict[str, Any]) -> None:
    item = {**item, **more}
    assert same(decode_item(encode_item(item)), given_back(item))


@given(items())
def test_what_is_written_is_compact_utf_8_json_that_any_parser_reads(item: dict[str, Any]) -> None:
    written = encode_item(item).decode("utf-8")
    assert same(json.loads(written), given_back(item))
    assert written == json.dumps(given_back(item), ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "backslashreplace"
    ).decode("utf-8")


DEL = "\x7f"
WITH_DEL: dict[str, dict[str, Any]] = {
    "text": {"a": DEL},
    "key": {DEL: 1},
    "deep": {"a": [{"b": DEL * 3}]},
    "among much text": {"a": [{"b": "word " * 100 + DEL}]},
    "key beside much text": {"a": [{DEL: "word " * 100}]},
}


@pytest.mark.parametrize("item", WITH_DEL.values(), ids=WITH_DEL)
def test_the_character_del_is_written_as_it_is(item: dict[str, Any]) -> None:
    assert encode_item(item) == json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize("more", SHAPES.values(), ids=SHAPES)
@given(item=bad_items())
def test_anything_else_is_a_type_error_that_says_so(more: dict[str, Any], item: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"^an item .*; nothing was written$"):
        encode_item({**item, **more})


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_json_of_an_object_or_an_error(data: bytes) -> None:
    try:
        item = decode_item(data)
    except NotJsonError:
        return
    assert same(item, json.loads(data))


@given(
    st.text(max_size=40) | st.sampled_from(['{"a":1}', " {}\n", "[]", "1", "NaN", "\ufeff{}", '{"a":1} x', "", "nul"])
)
def test_any_text_is_read_as_pythons_own_parser_reads_it(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(NotJsonError):
            decode_json(text)
    else:
        assert repr(decode_json(text)) == repr(expected)


def nested(depth: int, wrap: Callable[[Any], Any], innermost: Any) -> Any:
    value = innermost
    for _ in range(depth):
        value = wrap(value)
    return value


def as_list(inner: Any) -> Any:
    return [inner]


def as_dict(inner: Any) -> Any:
    return {"a": inner}


#: What goes around a value, and how that comes back.
WRAPS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "lists": (as_list, as_list),
    "dicts": (as_dict, as_dict),
    "tuples": (lambda inner: (inner,), as_list),
    "ordered dicts": (lambda inner: OrderedDict(a=inner), as_dict),
}


@pytest.mark.parametrize("kind", WRAPS)
@pytest.mark.parametrize("innermost", [1, "", [], {}], ids=repr)
def test_an_item_may_be_nested_as_deep_as_the_bound(kind: str, innermost: Any) -> None:
    levels = MAX_DEPTH - 1 - isinstance(innermost, (dict, list))  # the item itself is a level
    wrap, given = WRAPS[kind]
    assert decode_item(encode_item({"a": nested(levels, wrap, innermost)})) == {"a": nested(levels, given, innermost)}


@pytest.mark.parametrize("kind", WRAPS)
@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 700, 990, 2_000, 100_000])
def test_an_item_nested_deeper_is_refused(kind: str, levels: int) -> None:
    with pytest.raises(TypeError, match="nested deeper than 500 levels"):
        encode_item({"a": nested(levels, WRAPS[kind][0], 1)})


def test_an_item_that_holds_itself_is_refused() -> None:
    item: dict[str, Any] = {"role": "user"}
    for inside in (item, [item], [[], {"a": item}], (item,)):
        item["content"] = inside
        with pytest.raises(TypeError, match="holds itself"):
            encode_item(item)


def test_the_same_value_twice_is_no_circle() -> None:
    shared = {"a": [1, 2]}
    item = {"one": shared, "two": [shared, shared]}
    assert decode_item(encode_item(item)) == item


@pytest.mark.parametrize("digits", [4299, 4300])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_integer_of_4300_digits_comes_back(digits: int, sign: int) -> None:
    number = sign * (10**digits - 1)
    assert decode_item(encode_item({"n": number})) == {"n": number}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("digits", [4301, 10_000])
def test_an_integer_of_more_digits_is_refused(digits: int, sign: int) -> None:
    with pytest.raises(TypeError, match="an integer of more than 4,300 digits"):
        encode_item({"n": [sign * 10 ** (digits - 1)]})


@given(texts(), texts())
def test_a_surrogate_pair_in_two_characters_is_refused_wherever_it_stands(before: str, after: str) -> None:
    pair = "\ud83d\ude00"
    for item in ({"a": before + pair + after}, {"a": [{before + pair + after: 1}]}):
        with pytest.raises(TypeError, match="a surrogate pair as two characters"):
            encode_item(item)


class Word(str):
    """What json writes as a str."""

    __slots__ = ()


def test_a_surrogate_pair_in_two_characters_is_refused_in_a_kind_of_str_too() -> None:
    for item in ({"a": Word("\ud83d\ude00")}, {Word("\ud83d\ude00"): 1}, {"a": [[]] * MAX_DEPTH, "b": "\ud83d\ude00"}):
        with pytest.raises(TypeError, match="a surrogate pair as two characters"):
            encode_item(item)


PAIR = "\ud83d\ude00"


class NoValues(dict[str, Any]):
    """A dict that hides its values from who does not ask for its items."""

    def values(self) -> Any:
        return []


class OtherItems(dict[str, Any]):
    def items(self) -> Any:
        return [("a", PAIR)]


class NoKeys(dict[str, Any]):
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    "odd", [NoValues(a=PAIR), OtherItems(a=PAIR), NoKeys({PAIR: 1})], ids=lambda odd: type(odd).__name__
)
def test_what_a_kind_of_dict_hides_is_refused_like_what_it_shows(odd: dict[str, Any]) -> None:
    for item in (odd, {"a": odd}, {"a": [odd]}):
        with pytest.raises(TypeError, match="a surrogate pair as two characters"):
            encode_item(item)


def pretending(kind: type) -> Any:
    """What calls itself a list, a dict or a str and is none: its methods say what they should not."""

    class Pretender:
        __class__ = kind  # type: ignore[assignment]  # the lie that is tested

        def values(self) -> Any:
            raise KeyError("a secret value")

        def __iter__(self) -> Any:
            while True:
                yield "a secret value"

    return Pretender()


@pytest.mark.parametrize("kind", [dict, list, tuple, str, int])
def test_what_only_pretends_to_be_json_is_refused_unasked(kind: type) -> None:
    for item in ({"a": pretending(kind)}, {"a": [pretending(kind)]}, {pretending(kind): 1}, pretending(kind)):
        with pytest.raises(TypeError, match=r"^an item .*; nothing was written$") as caught:
            encode_item(item)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "more", [None, "caf\u00e9", Word("cafe"), [[]] * MAX_DEPTH], ids=["alone", "text", "word", "lists"]
)
@given(text=st.text(max_size=40))
def test_what_is_not_ascii_is_written_as_it_is(more: object, text: str) -> None:
    # As an escape it would take twice or three times the room.
    written = encode_item({"a": text, "b": more}).decode("utf-8")
    assert all(character in written for character in text if character > "\x7f")


HIGH, LOW = "\ud83d", "\ude00"


@pytest.mark.parametrize("text", [HIGH, LOW, LOW + HIGH, HIGH * 2, f"a{HIGH}b{LOW}c", HIGH + r"\udc00"], ids=ascii)
def test_a_surrogate_that_stands_alone_comes_back(text: str) -> None:
    for item in ({"a": text}, {text: text}, {"a": [text, text[::-1]] if len(text) == 1 else [text]}):
        assert same(decode_item(encode_item(item)), item)


def test_two_strings_that_end_and_begin_with_the_halves_of_a_pair_are_no_pair() -> None:
    item = {"a\ud83d": "\ude00b", "list": ["\ud83d", "\ude00"]}
    assert decode_item(encode_item(item)) == item


class OtherText(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "another"

    def isascii(self) -> bool:
        return True


class OtherNumber(int):
    def __repr__(self) -> str:
        return "0, 1"

    def __int__(self) -> int:
        return 7


class OtherFloat(float):
    def __repr__(self) -> str:
        return "0, 1"

    def __float__(self) -> float:
        return 7.0


class NoPairs(tuple[Any, ...]):
    __slots__ = ()

    def __iter__(self) -> Any:
        return iter(())


class NoElements(list[Any]):
    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


class Level(enum.IntEnum):
    HIGH = 3


class Role(str, enum.Enum):
    USER = "user"

    def __str__(self) -> str:
        return "system"


class Alike(str):
    """A key that says it is another than the same text."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("odd", "holds"),
    [
        (OtherItems(a="a"), {"a": "a"}),
        (NoValues(a=[1]), {"a": [1]}),
        (NoKeys(a=1), {"a": 1}),
        (NoElements([1, 2]), [1, 2]),
        (OtherText("it"), "it"),
        (OtherNumber(5), 5),
        (OtherFloat(0.5), 0.5),
        (NoPairs((1, 2)), [1, 2]),
        (Level.HIGH, 3),
        (Role.USER, "user"),
        (OrderedDict(a=1), {"a": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_kind_of_a_type_that_lies_is_written_as_what_it_holds(odd: Any, holds: Any) -> None:
    assert decode_item(encode_item({"a": odd})) == {"a": holds}
    assert decode_item(encode_item({"a": [odd, (odd,)]})) == {"a": [holds, [holds]]}
    if isinstance(odd, dict):
        assert decode_item(encode_item(odd)) == holds


class Watched:
    """Any of its methods that is called fails: of an odd value none is asked what it holds."""

    def _fail(self, *_: object) -> Any:
        raise AssertionError("a method of the item was called")

    __iter__ = __len__ = __eq__ = __hash__ = __str__ = __repr__ = __bool__ = __getitem__ = __contains__ = _fail
    __int__ = __index__ = __float__ = __lt__ = __gt__ = __format__ = __reduce_ex__ = items = keys = values = _fail
    isascii = encode = get = copy = _fail


@pytest.mark.parametrize(
    ("kind", "holds"), [(dict, {"a": 1}), (list, [1]), (tuple, (1,)), (str, "it"), (int, 5), (float, 0.5)]
)
def test_no_method_of_an_item_is_asked_what_it_holds(kind: type, holds: Any) -> None:
    """Else it could show one thing to the checks, and another to what writes it."""
    odd = type("Odd", (Watched, kind), {})(holds)
    assert same(decode_item(encode_item({"a": odd, "b": [odd]})), given_back({"a": holds, "b": [holds]}))


def test_no_method_of_a_key_is_asked_what_it_holds() -> None:
    class Key(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "another"

        def isascii(self) -> bool:
            raise AssertionError

    assert decode_item(encode_item({Key("it"): {Key("it"): 1}})) == {"it": {"it": 1}}


def test_two_keys_that_json_writes_alike_are_refused() -> None:
    with pytest.raises(TypeError, match="two keys that are the same in JSON"):
        encode_item({"a": 1, Alike("a"): 2})


def test_shared_lists_that_would_become_too_long_are_refused_before_they_are_written() -> None:
    shared: list[Any] = ["x"]
    for _ in range(40):  # a terabyte
        shared = [shared, shared]
    tracemalloc.start()
    try:
        with pytest.raises(TooLongError, match="longer than 50,331,648 bytes"):
            encode_item({"a": shared}, 48 * 2**20)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("wide", [1, 1000, 100_000])
def test_an_item_that_holds_itself_costs_no_more_than_it_holds(wide: int) -> None:
    item: dict[str, Any] = {}
    item["content"] = [item] * wide
    tracemalloc.start()
    try:
        with pytest.raises(TypeError, match="holds itself"):
            encode_item(item)
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "item",
    [{"a": "x" * 1000}, {"x" * 1000: 1}, {"a": [1] * 1000}, {"a": "é" * 600}, {"a": "\n" * 600}, {"a": [[]] * 600}],
)
def test_json_is_no_longer_than_it_may_be(item: dict[str, Any]) -> None:
    written = encode_item(item)
    assert encode_item(item, len(written)) == written
    with pytest.raises(TooLongError) as raised:
        encode_item(item, len(written) - 1)
    assert raised.value.__context__ is None


class Part(BaseModel):
    text: str
    more: dict[str, int] = {}


class Message(BaseModel):
    role: str
    content: list[Part]
    score: float | None = None


def test_a_pydantic_model_is_dumped_in_json_mode() -> None:
    message = Message(role="user", content=[Part(text="a\0b", more={"n": 10**20})])
    assert decode_item(encode_item(message)) == message.model_dump(mode="json")


@dataclasses.dataclass
class Data:
    role: str = "user"


@pytest.mark.parametrize("value", [None, 5, "text", b"{}", ["role"], ("role", "user"), Data(), Message, dict], ids=repr)
def test_what_is_neither_a_dict_nor_a_model_is_named_by_its_type(value: object) -> None:
    kind = value.__name__ if isinstance(value, type) else type(value).__name__
    with pytest.raises(TypeError, match=f"an item must be a dict or a Pydantic model, not .*{kind}"):
        encode_item(value)


def test_a_model_that_cannot_be_dumped_is_a_type_error_without_its_words() -> None:
    class Odd(BaseModel):
        content: object

    for content in (object(), b"\xff secret", decimal.Context()):
        with pytest.raises(TypeError, match="Odd") as caught:
            encode_item(Odd(content=content))
        assert "secret" not in str(caught.value)
        assert caught.value.__context__ is None
        assert caught.value.__cause__ is None


@given(bad_items())
@settings(max_examples=examples(50))
def test_a_refusal_brings_no_other_error_along(item: object) -> None:
    with pytest.raises(TypeError) as caught:
        encode_item(item)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
