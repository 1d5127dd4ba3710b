"""Services, jobs, the audit log, checks, issues and repairs, processes, alerts, logs, tokens, locks."""

from ops.choices import CheckStatus, IssueState, JobState, Lamp, LogLevel, RepairClass, RepairRunState, ServiceStatus
from ops.models.alert import AlertChannel, AlertKind, AlertMessage, AlertState, MaintenanceWindow
from ops.models.audit import AuditEvent, AuditIsAppendOnly, AuditPruning
from ops.models.backup import (
    Backup,
    BackupCopy,
    BackupDestination,
    BackupDrill,
    BackupKey,
    BackupPlan,
    BackupReason,
    BackupState,
    CopyState,
    DestinationKind,
    DrillState,
)
from ops.models.check import CheckResult, CheckState
from ops.models.heartbeat import Heartbeat
from ops.models.idempotency import IdempotencyRecord
from ops.models.issue import Issue, IssueTarget
from ops.models.job import Job, JobLine, JobTrigger
from ops.models.live_setting import LiveSetting
from ops.models.lock import NamedLock
from ops.models.log import Capture, ErrorSignature, Exchange, LogLine
from ops.models.process import Process, ProcessRole
from ops.models.release import Release
from ops.models.repair import RepairPolicy, RepairRun
from ops.models.restore import Restore, RestoreEpoch, RestoreState
from ops.models.service import ManagedBy, Service
from ops.models.sighting import Sighting
from ops.models.token import ApiToken, TokenScope
from ops.models.version import ObjectVersion

__all__ = [
    "AlertChannel",
    "AlertKind",
    "AlertMessage",
    "AlertState",
    "ApiToken",
    "AuditEvent",
    "AuditIsAppendOnly",
    "AuditPruning",
    "Backup",
    "BackupCopy",
    "BackupDestination",
    "BackupDrill",
    "BackupKey",
    "BackupPlan",
    "BackupReason",
    "BackupState",
    "Capture",
    "CheckResult",
    "CheckState",
    "CheckStatus",
    "CopyState",
    "DestinationKind",
    "DrillState",
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
    "ObjectVersion",
    "Process",
    "ProcessRole",
    "Release",
    "RepairClass",
    "RepairPolicy",
    "RepairRun",
    "RepairRunState",
    "Restore",
    "RestoreEpoch",
    "RestoreState",
    "Service",
    "ServiceStatus",
    "Sighting",
    "TokenScope",
]
