"""Who this process is to AWS, in the form that the aws login takes."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlsplit

from .._support.extras import import_sdk
from .._support.redaction import redact_frames
from ..aws.sdk import botocore_session, region_of, translating_errors
from ..errors import KeyAccessDeniedError

__all__ = ["signed_identity"]


@redact_frames
def signed_identity(region: str | None, server_id: str | None) -> dict[str, Any]:
    """A GetCallerIdentity of AWS STS, signed (SigV4) and not sent, as the aws login takes it.

    The credentials come from botocore's own chain, whose inner requests have our time-outs.
    """
    body = "Action=GetCallerIdentity&Version=2011-06-15"

    def sign() -> tuple[str, Any]:
        session = botocore_session()
        where = region_of(session, region)
        credentials = session.get_credentials()
        if credentials is None:
            raise KeyAccessDeniedError("the aws login: botocore found no AWS credentials in its chain")
        url = session.create_client("sts", region_name=where).meta.endpoint_url.rstrip("/") + "/"
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            "Host": urlsplit(url).netloc,
            **({"X-Vault-AWS-IAM-Server-ID": server_id} if server_id else {}),
        }
        request = import_sdk("botocore.awsrequest", "aws").AWSRequest("POST", url, headers, body)
        signer = import_sdk("botocore.auth", "aws").SigV4Auth
        # The one endpoint for the whole world counts as being in this region.
        signer(credentials.get_frozen_credentials(), "sts", where or "us-east-1").add_auth(request)
        return url, request

    url, request = translating_errors("the aws login", sign)
    signed = {name: [value] for name, value in request.headers.items()}
    return {
        "iam_http_request_method": "POST",
        "iam_request_url": _base64(url),
        "iam_request_headers": _base64(json.dumps(signed)),
        "iam_request_body": _base64(body),
    }


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8")).decode("ascii")
