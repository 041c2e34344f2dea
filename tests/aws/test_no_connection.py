"""No way to Secrets Manager: nobody takes the connection, or the name of the host is not known."""

from __future__ import annotations

import sys

import pytest

from encrypted_sessions_tests.full_backlog import full_backlog
from keyproviders import KeyUnavailableError
from keyproviders.aws import AwsSecretsManagerKeyProvider, sdk


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses, which is another test")
def test_no_connection_within_the_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sdk, "_CONNECT_TIMEOUT_S", 0.1)
    with full_backlog() as port:
        provider = AwsSecretsManagerKeyProvider("x", endpoint_url=f"http://127.0.0.1:{port}")
        with pytest.raises(KeyUnavailableError, match=r"no connection within 0\.1 s"):
            provider.active()
        provider.close()


def test_the_host_has_no_address():
    provider = AwsSecretsManagerKeyProvider("x", endpoint_url="https://no-such-host.invalid")
    with pytest.raises(KeyUnavailableError, match="EndpointConnectionError"):
        provider.active()
    provider.close()
