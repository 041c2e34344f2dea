"""The wrapper of Transit, with a server on loopback that answers as it is told."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from keyproviders import (
    InvalidKeyError,
    KeyAccessDeniedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnavailableError,
    ProviderConfigError,
)
from keyproviders.keyset import KeyWrapper, WrappedKey
from keyproviders.vault import VaultTransitKeyWrapper

CONTEXT = {"keyset": "default", "key": "k1", "created_at": "2026-11-23T07:00:00Z"}
BOUND = '{"created_at":"2026-11-23T07:00:00Z","key":"k1","keyset":"default"}'
SECRET = bytes(range(32))
NO_CONTEXT = "missing 'context' for key derivation; the key was created using a derived key, which means"


def wire(raw: bytes | str) -> str:
    return base64.b64encode(raw.encode() if isinstance(raw, str) else raw).decode()


def ciphertext(version: int = 1, *, of: bytes = b"sealed" * 10) -> str:
    return f"vault:v{version}:{wire(of)}"


def wrapped(version: int = 1, kek: str = "transit/agents") -> WrappedKey:
    return WrappedKey(kek, ciphertext(version))


@pytest.fixture
def make(vault, token_file: Path) -> Iterator[Any]:
    """Makes wrappers that ask the scripted server."""
    made: list[VaultTransitKeyWrapper] = []

    def wrapper(key: str = "agents", **given: Any) -> VaultTransitKeyWrapper:
        connection = {"address": vault.url, "auth": "token-file", "token_file": token_file}
        made.append(VaultTransitKeyWrapper(key, **{**connection, **given}))
        return made[-1]

    yield wrapper
    for one in made:
        one.close()


def answers(vault, reply, operation: str, *bodies: Mapping[str, Any], path: str = "transit/{}/agents") -> None:
    vault.on("POST", f"/v1/{path.format(operation)}", *[reply(200, {"data": dict(body)}) for body in bodies])


def refuses(vault, reply, operation: str, words: str, status: int = 400, path: str = "transit/{}/agents") -> None:
    vault.on("POST", f"/v1/{path.format(operation)}", reply(status, {"errors": [words]}))


def gives_data_keys(vault, reply, *bodies: Mapping[str, Any], path: str = "/v1/transit/datakey/plaintext/agents"):
    """As a derived key does: an error without a context, then these."""
    refusal = reply(400, {"errors": [NO_CONTEXT]})
    vault.on("POST", path, refusal, *[reply(200, {"data": dict(body)}) for body in bodies])


def failure(call: Any) -> KeyProviderError:
    with pytest.raises(KeyProviderError) as caught:
        call()
    return caught.value


# What is asked, and what is made of it.


def test_it_is_a_key_wrapper(make):
    wrapper = make()
    assert isinstance(wrapper, KeyWrapper)
    assert wrapper.place == "vault-transit:agents"
    assert repr(wrapper) == "<VaultTransitKeyWrapper vault-transit:agents>"
    assert make(mount="team-a/transit/").place == "vault-transit:agents?mount=team-a/transit"


def test_a_new_key_is_a_data_key_under_the_context_of_a_key_that_is_derived(vault, reply, make):
    gives_data_keys(vault, reply, {"plaintext": wire(SECRET), "ciphertext": ciphertext(3)})
    assert make().generate(CONTEXT) == (SECRET, WrappedKey("transit/agents", ciphertext(3)))
    assert vault.paths() == ["POST transit/datakey/plaintext/agents"] * 2
    assert [asked.body for asked in vault.asked] == [
        {"context": "", "bits": 256},
        {"context": wire(BOUND), "bits": 256},
    ]


def test_unwrapping_is_one_request_with_the_context(vault, reply, make):
    answers(vault, reply, "decrypt", {"plaintext": wire(SECRET)})
    assert make().unwrap(wrapped(), CONTEXT) == SECRET
    assert vault.paths() == ["POST transit/decrypt/agents"]
    assert vault.asked[0].body == {"ciphertext": ciphertext(), "context": wire(BOUND)}


def test_what_the_user_adds_is_bound_in_one_canonical_form(vault, reply, make):
    answers(vault, reply, "decrypt", {"plaintext": wire(SECRET)})
    for context in ({"tenant": "7", "a": "é\ud800"}, {"a": "é\ud800", "tenant": "7"}):
        make(context=context).unwrap(wrapped(), dict(reversed(CONTEXT.items())))
    one, other = (json.loads(base64.b64decode(asked.body["context"])) for asked in vault.asked)
    assert one == other == {**CONTEXT, "tenant": "7", "a": "é\ud800"}
    assert vault.asked[0].body == vault.asked[1].body
    text = base64.b64decode(vault.asked[0].body["context"]).decode("ascii")
    assert text.startswith(r'{"a":"\u00e9\ud800","created_at":')
    assert " " not in text


def test_the_context_is_kept_as_it_was_given(vault, reply, make):
    answers(vault, reply, "decrypt", {"plaintext": wire(SECRET)})
    context = {"tenant": "7"}
    wrapper = make(context=context)
    context["tenant"] = "8"
    wrapper.unwrap(wrapped(), CONTEXT)
    assert json.loads(base64.b64decode(vault.asked[0].body["context"]))["tenant"] == "7"


@pytest.mark.parametrize(("before", "after"), [(1, 2), (9, 10), (99, 100)])
def test_rewrapping_moves_to_the_newest_version_without_the_plain_key(vault, reply, make, before: int, after: int):
    answers(vault, reply, "rewrap", {"ciphertext": ciphertext(after)})
    assert make().rewrap(wrapped(before), CONTEXT) == wrapped(after)
    assert vault.paths() == ["POST transit/rewrap/agents"]
    assert vault.asked[0].body == {"ciphertext": ciphertext(before), "context": wire(BOUND)}


@pytest.mark.parametrize(("before", "after"), [(1, 1), (10, 10), (10, 9), (100, 99)])
def test_what_is_under_the_newest_version_stays_as_it_is(vault, reply, make, before: int, after: int):
    answers(vault, reply, "rewrap", {"ciphertext": ciphertext(after, of=b"sealed anew" * 6)})
    mine = wrapped(before)
    assert make().rewrap(mine, CONTEXT) is mine


@pytest.mark.parametrize("old", ["transit/old", "team-a/transit/agents"])
def test_rewrapping_from_another_key_decrypts_there_and_encrypts_here(vault, reply, make, old: str):
    mount, _, key = old.rpartition("/")
    gives_data_keys(vault, reply)
    answers(vault, reply, "decrypt", {"plaintext": wire(SECRET)}, path=f"{mount}/{{}}/{key}")
    answers(vault, reply, "encrypt", {"ciphertext": ciphertext(7)})
    assert make().rewrap(wrapped(4, old), CONTEXT) == wrapped(7)
    assert vault.paths() == [
        "POST transit/datakey/plaintext/agents",
        f"POST {mount}/decrypt/{key}",
        "POST transit/encrypt/agents",
    ]
    assert vault.asked[1].body == {"ciphertext": ciphertext(4), "context": wire(BOUND)}
    assert vault.asked[2].body == {"plaintext": wire(SECRET), "context": wire(BOUND)}


def test_nothing_is_moved_to_a_key_that_is_not_derived_or_not_there(vault, reply, make):
    answers(vault, reply, "datakey/plaintext", {"plaintext": wire(SECRET), "ciphertext": ciphertext()})
    assert type(failure(lambda: make().rewrap(wrapped(1, "transit/old"), CONTEXT))) is ProviderConfigError
    refuses(vault, reply, "datakey/plaintext", "encryption key not found")
    assert type(failure(lambda: make().rewrap(wrapped(1, "transit/old"), CONTEXT))) is KeyNotFoundError
    assert vault.paths() == ["POST transit/datakey/plaintext/agents"] * 2


@pytest.mark.parametrize("old", ["transit/agents", "transit/old"])
def test_binding_a_key_anew_decrypts_under_the_old_context_and_encrypts_under_the_new_one(vault, reply, make, old: str):
    gives_data_keys(vault, reply)
    answers(vault, reply, "decrypt", {"plaintext": wire(SECRET)}, path=f"transit/{{}}/{old.rpartition('/')[2]}")
    answers(vault, reply, "encrypt", {"ciphertext": ciphertext(7)})
    new = {**CONTEXT, "keyset_id": "0" * 32}
    assert make(also_kek="transit/old").rebind(wrapped(4, old), CONTEXT, new) == wrapped(7)
    assert vault.paths() == [
        "POST transit/datakey/plaintext/agents",
        f"POST {old.replace('/', '/decrypt/')}",
        "POST transit/encrypt/agents",
    ]
    assert vault.asked[1].body == {"ciphertext": ciphertext(4), "context": wire(BOUND)}
    bound = json.loads(base64.b64decode(vault.asked[2].body["context"]))
    assert bound == new
    assert vault.asked[2].body["plaintext"] == wire(SECRET)


def test_a_key_under_another_key_than_those_allowed_is_not_bound_anew(vault, make):
    error = failure(lambda: make().rebind(wrapped(1, "transit/old"), CONTEXT, {**CONTEXT, "keyset_id": "0" * 32}))
    assert type(error) is ProviderConfigError
    assert "allow it with also_kek=transit/old" in str(error)
    assert vault.asked == []


def test_a_context_of_the_users_own_that_has_the_id_is_refused_once_the_keyset_binds_it(vault, reply, make):
    answers(vault, reply, "decrypt", {"plaintext": wire(SECRET)})
    wrapper = make(context={"keyset_id": "mine"})
    assert wrapper.unwrap(wrapped(1), CONTEXT) == SECRET
    error = failure(lambda: wrapper.unwrap(wrapped(1), {**CONTEXT, "keyset_id": "0" * 32}))
    assert type(error) is ProviderConfigError
    assert "context contains 'keyset_id', which the keyset binds itself" in str(error)


def test_the_key_of_another_mount_is_asked_for_there(vault, reply, make):
    answers(vault, reply, "decrypt", {"plaintext": wire(SECRET)}, path="team-a/b%3Fc/{}/agents")
    assert make(mount="team-a/b?c").unwrap(wrapped(1, "team-a/b?c/agents"), CONTEXT) == SECRET


# Which key-encryption keys are let in.


@pytest.mark.parametrize("also", ["transit/old", ("transit/older", "transit/old")])
def test_a_key_that_is_still_under_an_allowed_one_opens_with_that(vault, reply, make, also: Any):
    answers(vault, reply, "decrypt", {"plaintext": wire(SECRET)}, path="transit/{}/old")
    assert make(also_kek=also).unwrap(wrapped(1, "transit/old"), CONTEXT) == SECRET


@pytest.mark.parametrize("kek", ["transit/old", "other/agents", "agents/transit", "transit/agents/agents"])
def test_a_key_under_any_other_one_is_refused_and_nobody_is_asked(vault, make, kek: str):
    error = failure(lambda: make(also_kek="transit/older").unwrap(wrapped(1, kek), CONTEXT))
    assert type(error) is ProviderConfigError
    assert f"wrapped by {kek}, but vault-transit:agents may only use transit/agents or transit/older" in str(error)
    assert "the key 'k1' of the keyset 'default'" in str(error)
    assert vault.asked == []


@pytest.mark.parametrize(
    "kek",
    [
        "",
        "agents",
        "/agents",
        "transit/",
        "transit//agents",
        "../sys/agents",
        "transit/./agents",
        "transit/..",
        "transit/a b",
        "tran sit/agents",
        "transit/agents?x=1",
        "transit/agents%2f",
        "transit/agents\n",
        "transit/é",
        "arn:aws:kms:eu-central-1:111122223333:alias",
    ],
)
@pytest.mark.parametrize("call", ["unwrap", "rewrap"])
def test_what_is_no_key_of_transit_never_becomes_a_path(vault, make, call: str, kek: str):
    error = failure(lambda: getattr(make(), call)(wrapped(1, kek), CONTEXT))
    assert type(error) is ProviderConfigError
    assert "does not belong to Transit" in str(error)
    assert vault.asked == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vault:v1:",
        "vault:v0:AAAA",
        "vault:v01:AAAA",
        "vault:v-1:AAAA",
        "vault:v:AAAA",
        "vault:vx:AAAA",
        "vault:v1234567890:AAAA",
        "vault:1:AAAA",
        "vault:v1:AAA",
        "vault:v1:AAAAA",
        "vault:v1:AAB=",
        "vault:v1:AA-_",
        "vault:v1:AA A",
        "vault:v1:AAAA\n",
        " vault:v1:AAAA",
        "VAULT:v1:AAAA",
        "bao:v1:AAAA",
        "vault:v1:AAAA:AAAA",
        wire(SECRET),
    ],
)
@pytest.mark.parametrize("call", ["unwrap", "rewrap"])
def test_what_is_no_ciphertext_of_transit_is_an_invalid_key_without_asking(vault, make, call: str, text: str):
    error = failure(lambda: getattr(make(), call)(WrappedKey("transit/agents", text), CONTEXT))
    assert type(error) is InvalidKeyError
    assert f"({len(text)} characters)" in str(error)
    assert vault.asked == []


# What the server can answer.


CALLS = {
    "generate": ("datakey/plaintext", lambda wrapper: wrapper.generate(CONTEXT)),
    "unwrap": ("decrypt", lambda wrapper: wrapper.unwrap(wrapped(3), CONTEXT)),
    "rewrap": ("rewrap", lambda wrapper: wrapper.rewrap(wrapped(3), CONTEXT)),
}


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("cipher: message authentication failed", InvalidKeyError, "another keyset or name"),
        ("chacha20poly1305: message authentication failed", InvalidKeyError, "another server or namespace"),
        ("invalid ciphertext: no prefix", InvalidKeyError, "last good copy"),
        ("invalid ciphertext: could not decode base64", InvalidKeyError, "last good copy"),
        ("invalid ciphertext length", InvalidKeyError, "last good copy"),
        (
            "invalid ciphertext: version is too new",
            InvalidKeyError,
            "version 3 of transit/agents, which does not exist here",
        ),
        (
            "ciphertext or signature version is disallowed by policy (too old)",
            KeyDisabledError,
            "vault write transit/keys/agents/config min_decryption_version=3",
        ),
        (
            "refusing to use soft-deleted key",
            KeyDisabledError,
            "bao write -f transit/keys/agents/soft-delete-restore",
        ),
        ("encryption key not found", KeyNotFoundError, "vault write transit/keys/agents derived=true"),
        (NO_CONTEXT, ProviderConfigError, "missing 'context'"),
        ("message encryption not supported for key type ed25519", ProviderConfigError, "ed25519"),
        ("something else", ProviderConfigError, "something else"),
    ],
)
@pytest.mark.parametrize("call", ["unwrap", "rewrap"])
def test_the_servers_words_tell_its_answers_of_400_apart(
    vault, reply, make, call: str, said: str, error: type[KeyProviderError], words: str
):
    operation, ask = CALLS[call]
    refuses(vault, reply, operation, said)
    found = failure(lambda: ask(make()))
    assert type(found) is error
    assert words in str(found)
    assert said in str(found)
    assert vault.url in str(found)
    assert "the key 'k1' of the keyset 'default'" in str(found)
    assert len(vault.asked) == 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [408, 412, 429, 472, 473, 500, 502, 503, 504])
def test_a_status_that_passes_is_unavailable(vault, reply, make, call: str, status: int):
    operation, ask = CALLS[call]
    # Words never turn it into an answer about the key.
    refuses(vault, reply, operation, "encryption key not found", status)
    assert type(failure(lambda: ask(make()))) is KeyUnavailableError


def test_retry_after_is_passed_on(vault, reply, make):
    vault.on("POST", "/v1/transit/decrypt/agents", reply(429, {"errors": ["slow down"]}, {"Retry-After": "3"}))
    found = failure(lambda: make().unwrap(wrapped(), CONTEXT))
    assert isinstance(found, KeyUnavailableError)
    assert found.retry_after_s == 3.0


@pytest.mark.parametrize("call", CALLS)
def test_a_denial_names_the_line_of_policy(vault, reply, make, call: str):
    operation, ask = CALLS[call]
    refuses(vault, reply, operation, "permission denied", 403)
    found = failure(lambda: ask(make()))
    assert type(found) is KeyAccessDeniedError
    assert f'path "transit/{operation}/agents" {{ capabilities = ["update"] }}' in str(found)


def test_a_denial_of_a_move_names_the_line_for_each_side(vault, reply, make):
    gives_data_keys(vault, reply)
    refuses(vault, reply, "decrypt", "permission denied", 403, "transit/{}/old")
    first = failure(lambda: make().rewrap(wrapped(1, "transit/old"), CONTEXT))
    answers(vault, reply, "decrypt", {"plaintext": wire(SECRET)}, path="transit/{}/old")
    refuses(vault, reply, "encrypt", "permission denied", 403)
    second = failure(lambda: make().rewrap(wrapped(1, "transit/old"), CONTEXT))
    assert 'path "transit/decrypt/old"' in str(first)
    assert 'path "transit/encrypt/agents"' in str(second)


@pytest.mark.parametrize("body", [{"errors": []}, {"data": None, "warnings": ["Invalid path"]}, None])
@pytest.mark.parametrize("call", CALLS)
def test_a_mount_that_has_no_transit_is_a_wrong_setting(vault, reply, make, call: str, body: Any):
    operation, ask = CALLS[call]
    vault.on("POST", f"/v1/transit/{operation}/agents", reply(404, body))
    found = failure(lambda: ask(make()))
    assert type(found) is ProviderConfigError
    assert "no Transit at the mount 'transit'" in str(found)


def test_a_key_that_is_not_derived_is_refused_with_the_command_that_makes_one(vault, reply, make):
    answers(vault, reply, "datakey/plaintext", {"plaintext": wire(SECRET), "ciphertext": ciphertext()})
    found = failure(lambda: make().generate(CONTEXT))
    assert type(found) is ProviderConfigError
    assert "vault write transit/keys/NAME derived=true" in str(found)
    assert len(vault.asked) == 1


@pytest.mark.parametrize("content", [b"<html>welcome</html>", b"[]", b"{}", b'{"data": null}', b'{"data": {}}'])
@pytest.mark.parametrize("call", CALLS)
def test_what_answers_is_no_vault(vault, reply, make, call: str, content: bytes):
    operation, ask = CALLS[call]
    vault.on("POST", f"/v1/transit/{operation}/agents", reply(200, raw=content))
    found = failure(lambda: ask(make()))
    assert type(found) is ProviderConfigError
    assert "not a valid Vault or OpenBao response" in str(found)


@pytest.mark.parametrize("text", ["", "AAAA", wire(bytes(31)), wire(bytes(33)), wire(SECRET)[:-1] + "!", "é" * 43])
def test_what_is_unwrapped_to_no_key_is_an_invalid_key(vault, reply, make, text: str):
    answers(vault, reply, "decrypt", {"plaintext": text})
    found = failure(lambda: make().unwrap(wrapped(), CONTEXT))
    assert type(found) is InvalidKeyError
    assert f"what transit/agents unwrapped ({len(text)} characters) is not a key" in str(found)
    gives_data_keys(vault, reply, {"plaintext": text, "ciphertext": ciphertext()})
    assert type(failure(lambda: make().generate(CONTEXT))) is InvalidKeyError


def test_what_is_unwrapped_to_no_key_is_not_wrapped_again(vault, reply, make):
    gives_data_keys(vault, reply)
    answers(vault, reply, "decrypt", {"plaintext": wire(bytes(16))}, path="transit/{}/old")
    assert type(failure(lambda: make().rewrap(wrapped(1, "transit/old"), CONTEXT))) is InvalidKeyError
    assert not any("encrypt" in path for path in vault.paths())


@pytest.mark.parametrize("text", [None, 1, "vault:v0:AAAA", "vault:v1:!!", "AAAA"])
def test_a_ciphertext_that_nobody_could_unwrap_is_not_taken(vault, reply, make, text: Any):
    gives_data_keys(vault, reply, {"plaintext": wire(SECRET), "ciphertext": text})
    answers(vault, reply, "rewrap", {"ciphertext": text})
    assert type(failure(lambda: make().generate(CONTEXT))) is ProviderConfigError
    assert type(failure(lambda: make().rewrap(wrapped(), CONTEXT))) is ProviderConfigError


def test_a_revoked_token_costs_one_login_and_one_repetition(vault, reply):
    denied = reply(403, {"errors": ["permission denied"]})
    vault.on("POST", "/v1/transit/decrypt/agents", denied, reply(200, {"data": {"plaintext": wire(SECRET)}}))
    vault.on("POST", "/v1/auth/approle/login", vault.granted("first"), vault.granted("second"))
    wrapper = VaultTransitKeyWrapper("agents", address=vault.url, auth="approle", role_id="r")
    assert wrapper.unwrap(wrapped(), CONTEXT) == SECRET
    assert vault.tokens() == [None, "first", None, "second"]
    wrapper.close()


# What is given.


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"key": ""}, "key"),
        ({"key": "transit/agents"}, "mount="),
        ({"key": "../agents"}, "key"),
        ({"key": "-agents"}, "key"),
        ({"key": "agents."}, "key"),
        ({"key": "agents\n"}, "key"),
        ({"key": "agénts"}, "key"),
        ({"mount": ""}, "mount"),
        ({"mount": "/transit"}, "mount"),
        ({"mount": "a//b"}, "mount"),
        ({"mount": ".."}, "mount"),
        ({"mount": "tran sit"}, "mount"),
        ({"also_kek": ""}, "also_kek"),
        ({"also_kek": "old"}, "also_kek=transit/agents"),
        ({"also_kek": ("transit/old", "transit/..")}, "also_kek"),
        ({"context": {"keyset": "mine"}}, "'keyset'"),
        ({"context": {"a": "b", "key": "k9"}}, "'key'"),
        ({"context": {"created_at": ""}}, "'created_at'"),
        ({"role": "x"}, "role has no effect with auth=token"),
    ],
)
def test_what_cannot_be_meant_is_refused(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], words: str):
    monkeypatch.setenv("VAULT_ADDR", "https://vault.example:8200")
    with pytest.raises(ProviderConfigError, match=words):
        VaultTransitKeyWrapper(**{"key": "agents", **given})


@pytest.mark.parametrize("name", ["key", "mount", "also_kek"])
def test_a_key_in_the_place_of_a_name_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv("VAULT_ADDR", "https://vault.example:8200")
    text = base64.urlsafe_b64encode(b"mistaken" * 4).decode().rstrip("=")
    given = {"key": "agents", name: f"transit/{text}" if name == "also_kek" else text}
    with pytest.raises(ProviderConfigError, match=name) as caught:
        VaultTransitKeyWrapper(**given)
    assert text[:12] not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"key": 1},
        {"mount": None},
        {"also_kek": None},
        {"also_kek": ["transit/old"]},
        {"also_kek": (1,)},
        {"context": "a=b"},
        {"context": {"a": 1}},
        {"context": {1: "a"}},
        {"address": 1},
        {"allow_insecure": 1},
        {"colour": "red"},
    ],
)
def test_a_wrong_type_is_a_type_error(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]):
    monkeypatch.setenv("VAULT_ADDR", "https://vault.example:8200")
    with pytest.raises(TypeError, match=next(iter(given))):
        VaultTransitKeyWrapper(**{"key": "agents", **given})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda wrapper: wrapper.generate("x"), "context"),
        (lambda wrapper: wrapper.generate({"keyset": 1}), "context"),
        (lambda wrapper: wrapper.unwrap(wrapped(), None), "context"),
        (lambda wrapper: wrapper.unwrap(tuple(wrapped()), CONTEXT), "wrapped"),
        (lambda wrapper: wrapper.unwrap(WrappedKey("transit/agents", b"vault:v1:AAAA"), CONTEXT), "wrapped"),
        (lambda wrapper: wrapper.rewrap(WrappedKey(None, "vault:v1:AAAA"), CONTEXT), "wrapped"),
    ],
)
def test_a_wrong_type_of_a_call_is_a_type_error(vault, make, call: Any, words: str):
    with pytest.raises(TypeError, match=words):
        call(make())
    assert vault.asked == []


def test_the_options_of_a_url_are_the_arguments_that_are_no_secret(monkeypatch: pytest.MonkeyPatch):
    made = VaultTransitKeyWrapper.from_options(
        "agents",
        {
            "mount": "team-a/transit",
            "also_kek": "transit/old,transit/older",
            "address": "https://vault.example:8200",
            "namespace": "team-a",
            "auth": "approle",
            "role_id": "r",
        },
    )
    assert made.place == "vault-transit:agents?mount=team-a/transit"
    assert made._connection.label == "https://vault.example:8200 (namespace team-a)"
    assert [str(kek) for kek in made._also] == ["transit/old", "transit/older"]
    assert {"mount", "also_kek", "address", "role_id", "secret_id_file"} <= VaultTransitKeyWrapper.URL_OPTIONS
    assert VaultTransitKeyWrapper.URL_REFUSED.keys() == {"token", "secret_id", "client", "allow_insecure", "context"}
    assert not VaultTransitKeyWrapper.URL_OPTIONS & VaultTransitKeyWrapper.URL_REFUSED.keys()


def test_plain_http_off_loopback_is_refused_unless_code_allows_it():
    options = {"address": "http://vault.example:8200"}
    with pytest.raises(ProviderConfigError, match="plain http"):
        VaultTransitKeyWrapper.from_options("agents", options, allow_insecure=False)
    with pytest.warns(UserWarning, match="plain http"):
        VaultTransitKeyWrapper.from_options("agents", options, allow_insecure=True)


def test_making_one_asks_nobody_and_loads_no_sdk():
    program = (
        "import sys, keyproviders.vault as v\n"
        "v.VaultTransitKeyWrapper('agents', address='https://vault.example', token='t')\n"
        "sys.exit(any(name in sys.modules for name in ('hvac', 'requests', 'sqlalchemy', 'boto3')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_closed_one_asks_nobody(vault, make):
    wrapper = make()
    wrapper.close()
    with pytest.raises(KeyProviderError, match="closed"):
        wrapper.unwrap(wrapped(), CONTEXT)
    assert vault.asked == []


def test_a_forked_child_uses_no_connection_of_its_parent(vault, reply, make):
    answers(vault, reply, "decrypt", {"plaintext": wire(SECRET)})
    wrapper = make()
    wrapper.unwrap(wrapped(), CONTEXT)
    before = wrapper._connection._adapter
    wrapper.after_fork()
    assert wrapper._connection._adapter is None
    assert wrapper.unwrap(wrapped(), CONTEXT) == SECRET
    assert wrapper._connection._adapter is not before
    before.close()


# Nothing leaks.


@pytest.mark.parametrize("call", ["generate", "unwrap", "rewrap"])
def test_no_error_shows_the_key_or_the_token(vault, reply, make, token_file: Path, call: str):
    secret, token = os.urandom(32), "hvs." + "S3cretToken" * 4
    token_file.write_text(token)
    wrapper = make()
    # Each fails after the plain key has come out.
    gives_data_keys(vault, reply, {"plaintext": wire(secret), "ciphertext": f"vault:v1:{secret.hex()}"})
    answers(vault, reply, "decrypt", {"plaintext": wire(secret + b"x")})
    answers(vault, reply, "decrypt", {"plaintext": wire(secret)}, path="transit/{}/old")
    refuses(vault, reply, "encrypt", f"no, not {token}")
    if call == "generate":
        vault.routes["POST", "/v1/transit/datakey/plaintext/agents"][1].body["data"]["ciphertext"] = "none"
    target = {
        "generate": lambda: wrapper.generate(CONTEXT),
        "unwrap": lambda: wrapper.unwrap(wrapped(), CONTEXT),
        "rewrap": lambda: wrapper.rewrap(wrapped(1, "transit/old"), CONTEXT),
    }[call]
    with pytest.raises(KeyProviderError) as caught:
        target()
    frames = "".join(
        repr(frame.f_locals)
        for frame, _ in traceback.walk_tb(caught.value.__traceback__)
        if str(frame.f_globals.get("__name__")).startswith("keyproviders")
    )
    shown = f"{caught.value!r} {caught.value.__dict__} {frames} {wrapper!r}"
    assert caught.value.__context__ is None
    for text in (token, wire(secret), wire(secret)[:20], secret.hex(), repr(secret)):
        assert text not in shown
