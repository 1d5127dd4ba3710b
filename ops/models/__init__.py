"""Services, jobs, the audit log, checks, issues and repairs, processes, alerts, logs, tokens, locks."""

from ops.choices import CheckStatus, IssueState, JobState, Lamp, LogLevel, RepairClass, RepairRunState, ServiceStatus
from ops.models.alert import AlertChannel, AlertKind, AlertMessage, AlertState, MaintenanceWindow
from ops.models.audit import AuditEvent, AuditIsAppendOnly, AuditPruning
from ops.models.check import CheckResult, CheckState
from ops.models.heartbeat import Heartbeat
from ops.models.idempotency import IdempotencyRecord
from ops.models.issue import Issue, IssueTarget
from ops.models.job import Job, JobLine, JobTrigger
from ops.models.live_setting import LiveSetting
from ops.models.lock import NamedLock
from ops.models.log import Capture, ErrorSignature, Exchange, LogLine
from ops.models.process import Process, ProcessRole
from ops.models.repair import RepairPolicy, RepairRun
from ops.models.service import ManagedBy, Service
from ops.models.sighting import Sighting
from ops.models.token import ApiToken, TokenScope

__all__ = [
    "AlertChannel",
    "AlertKind",
    "AlertMessage",
    "AlertState",
    "ApiToken",
    "AuditEvent",
    "AuditIsAppendOnly",
    "AuditPruning",
    "Capture",
    "CheckResult",
    "CheckState",
    "CheckStatus",
    "ErrorSignature",
    "Exchange",
    "Heartbeat",
    "IdempotencyRecord",
    "Issue",
    "IssueState",
    "IssueTarget",
    "Job",
    "JobLine",
    "JobState",
    "JobTrigger",
    "Lamp",
    "LiveSetting",
    "LogLevel",
    "LogLine",
    "MaintenanceWindow",
    "ManagedBy",
    "NamedLock",
    "Process",
    "ProcessRole",
    "RepairClass",
    "RepairPolicy",
    "RepairRun",
    "RepairRunState",
    "Service",
    "ServiceStatus",
    "Sighting",
    "TokenScope",
]
