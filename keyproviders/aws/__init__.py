"""Keys from AWS Secrets Manager, and keys wrapped by AWS KMS. Needs the extra `[aws]`, loaded at first use."""

from __future__ import annotations

from .kms import AwsKmsKeyWrapper
from .secrets_manager import AwsSecretsManagerKeyProvider

__all__ = ["AwsKmsKeyWrapper", "AwsSecretsManagerKeyProvider"]
