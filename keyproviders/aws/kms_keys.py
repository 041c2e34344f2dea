"""The names of KMS keys: ids, aliases, ARNs, and which of them can mean the same key."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["KmsKeyArn", "KmsKeyName"]

_ARN = re.compile(
    r"arn:(aws[a-z-]{0,20}):kms:([a-z0-9-]{1,32}):(\d{12}):((key)/[A-Za-z0-9-]{1,128}|(alias)/[A-Za-z0-9/_-]{1,250})\Z"
)
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z|mrk-[0-9a-f-]{32,36}\Z")
_ALIAS = re.compile(r"alias/[A-Za-z0-9/_-]{1,250}\Z")


class KmsKeyArn(NamedTuple):
    """The name that a KMS key has for good, and that nothing else has."""

    partition: str
    region: str
    account: str
    id: str

    @classmethod
    def read(cls, text: object) -> KmsKeyArn | None:
        """None for anything but the ARN of a key."""
        name = KmsKeyName.read(text) if isinstance(text, str) else None
        return name.arn if name is not None else None

    def __str__(self) -> str:
        return f"arn:{self.partition}:kms:{self.region}:{self.account}:key/{self.id}"

    @property
    def is_multi_region(self) -> bool:
        """Whether it has replicas, which share its id and its material and differ in the region."""
        return self.id.startswith("mrk-")

    def in_region(self, region: str) -> KmsKeyArn:
        """The replica of a multi-Region key in that region."""
        return self._replace(region=region)

    def is_same_key(self, other: KmsKeyArn) -> bool:
        """Whether what one of them wrapped opens with the other: they are equal, or replicas of each other."""
        return self == (other.in_region(self.region) if self.is_multi_region else other)


class KmsKeyName(NamedTuple):
    """A KMS key as a person names it: its id, its ARN, an alias, the ARN of an alias."""

    text: str
    arn: KmsKeyArn | None
    """Only where the text is the ARN of a key."""
    home: tuple[str, str, str] | None
    """Partition, region and account, where the text says them."""

    @classmethod
    def read(cls, text: str) -> KmsKeyName | None:
        """None for a text that names no key."""
        found = _ARN.match(text)
        if found is None:
            return cls(text, None, None) if _ID.match(text) or _ALIAS.match(text) else None
        partition, region, account = found[1], found[2], found[3]
        arn = KmsKeyArn(partition, region, account, found[4].removeprefix("key/")) if found[5] else None
        return cls(text, arn, (partition, region, account))

    def may_be(self, stored: KmsKeyArn) -> bool | None:
        """Whether this names that key. None where only KMS can tell: it alone knows where an alias leads."""
        if self.arn is not None:
            return self.arn.is_same_key(stored)
        if self.home is not None:
            partition, region, account = self.home
            same_region = stored.is_multi_region or region == stored.region
            return None if same_region and (partition, account) == (stored.partition, stored.account) else False
        return None if self.text.startswith("alias/") else self.text == stored.id

    def in_region(self, region: str | None) -> str:
        """The name to use in that region."""
        if region is None or self.arn is None or not self.arn.is_multi_region:
            return self.text
        return str(self.arn.in_region(region))
