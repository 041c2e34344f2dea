"""Keys from AWS Secrets Manager. Needs the extra ``[aws]``, which is loaded at first use."""

from __future__ import annotations

from .secrets_manager import AwsSecretsManagerKeyProvider

__all__ = ["AwsSecretsManagerKeyProvider"]
