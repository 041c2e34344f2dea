"""The audit log: files with one line for each operation of sessions, of maintenance and of keysets.

from encrypted_sessions import observe
from encrypted_sessions.audit import AuditLog

with AuditLog("/var/log/agents/audit") as log:
    stop = observe(log)
"""

from ..errors import AuditFailedError
from .log import AuditLog

__all__ = ["AuditFailedError", "AuditLog"]
