"""Services, jobs, the audit log, checks, tokens, locks."""

from ops.choices import CheckStatus, JobState, Lamp, LogLevel, ServiceStatus
from ops.models.audit import AuditEvent, AuditIsAppendOnly, AuditPruning
from ops.models.check import CheckResult, CheckState
from ops.models.heartbeat import Heartbeat
from ops.models.idempotency import IdempotencyRecord
from ops.models.job import Job, JobLine, JobTrigger
from ops.models.lock import NamedLock
from ops.models.service import ManagedBy, Service
from ops.models.token import ApiToken, TokenScope

__all__ = [
    "ApiToken",
    "AuditEvent",
    "AuditIsAppendOnly",
    "AuditPruning",
    "CheckResult",
    "CheckState",
    "CheckStatus",
    "Heartbeat",
    "IdempotencyRecord",
    "Job",
    "JobLine",
    "JobState",
    "JobTrigger",
    "Lamp",
    "LogLevel",
    "ManagedBy",
    "NamedLock",
    "Service",
    "ServiceStatus",
    "TokenScope",
]
