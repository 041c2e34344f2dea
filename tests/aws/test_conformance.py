"""The suites that every provider and every wrapper passes, over HTTP."""

from __future__ import annotations

import threading

import pytest

from keyproviders import KeyProvider
from keyproviders.aws import AwsKmsKeyWrapper, AwsSecretsManagerKeyProvider
from keyproviders.keyset import KeyWrapper
from keyproviders.testing import KeyProviderConformance, KeyWrapperConformance


class TestSecretsManager(KeyProviderConformance):
    @pytest.fixture(autouse=True)
    def _a_secret_with_two_versions(self, proxy, secret):
        self.older = secret.write_key()
        secret.write_key()
        self.name, self.url = secret.name, proxy.url
        self.made: list[AwsSecretsManagerKeyProvider] = []
        yield
        for provider in self.made:
            provider.close()

    def make_provider(self) -> KeyProvider:
        self.made.append(AwsSecretsManagerKeyProvider(self.name, endpoint_url=self.url))
        return self.made[-1]

    def older_name(self) -> str | None:
        return self.older.name

    def test_it_starts_no_threads(self) -> None:
        """But for those of this test's own server, which has one for each connection."""
        before = set(threading.enumerate())
        self.make_provider().active()
        new = [thread.name for thread in threading.enumerate() if thread not in before]
        assert [name for name in new if "process_request_thread" not in name] == []


class TestKms(KeyWrapperConformance):
    @pytest.fixture(autouse=True)
    def _two_keys(self, proxy, kms):
        self.first, self.second, self.url = kms.arn, kms.new_key(), proxy.url
        self.made: list[AwsKmsKeyWrapper] = []
        yield
        for wrapper in self.made:
            wrapper.close()

    def make_wrapper(self) -> KeyWrapper:
        self.made.append(AwsKmsKeyWrapper(self.first, endpoint_url=self.url))
        return self.made[-1]

    def make_successor(self) -> KeyWrapper:
        self.made.append(AwsKmsKeyWrapper(self.second, also_kek=self.first, endpoint_url=self.url))
        return self.made[-1]

    def test_it_starts_no_threads(self) -> None:
        """But for those of this test's own server, which has one for each connection."""
        before = set(threading.enumerate())
        self.make_wrapper().generate({"keyset": "k", "key": "first"})
        new = [thread.name for thread in threading.enumerate() if thread not in before]
        assert [name for name in new if "process_request_thread" not in name] == []
