"""What becomes of the ground floor's own models in a backup, and the kinds that a restore can be asked for."""

from __future__ import annotations

from ops.backup.scopes import declare, declare_all, register_kind

register_kind(
    "settings",
    label="Settings",
    sentence="Services with their credentials, live settings, alert channels, backup destinations.",
)
register_kind("people", label="People", sentence="People, what they may do, their tokens, invites and second factors.")
register_kind("mappings", label="Mappings", sentence="Agents with their accounts, rooms and invitations.")
register_kind("conversations", label="Conversations", sentence="What was said, with its turns, deliveries and files.")
register_kind("history", label="History", sentence="The audit log, what objects looked like, usage. Only added to.")

_OBSERVED = (
    "status",
    "status_sentence",
    "status_changed_at",
    "last_ok_at",
    "checked_at",
    "version",
    "capabilities",
    "latency_ms",
    "updated_at",
)

declare("ops.Service", "kept", kind="settings", natural=("name",), observed=_OBSERVED)
declare("ops.LiveSetting", "kept", kind="settings")
declare(
    "ops.AlertChannel",
    "kept",
    kind="settings",
    natural=("name",),
    observed=("last_ok_at", "last_error", "last_error_at"),
)
declare("ops.MaintenanceWindow", "kept", kind="settings")
declare("ops.ErrorSignature", "kept", kind="settings", natural=("pattern",))
declare("ops.RepairPolicy", "kept", kind="settings", observed=("changed_at",))
declare("ops.BackupKey", "kept", kind="settings", natural=("recipient",), revoked=("retired_at",))
declare(
    "ops.BackupDestination",
    "kept",
    kind="settings",
    natural=("name",),
    observed=("last_ok_at", "last_error", "last_error_at"),
)
declare(
    "ops.BackupPlan",
    "kept",
    kind="settings",
    observed=("next_at", "last_attempt_at", "last_complete_at", "last_drill_at"),
)
declare("ops.ApiToken", "kept", kind="people", natural=("prefix",), observed=("last_used_at",), revoked=("revoked_at",))

declare("ops.AuditEvent", "added", kind="history")
declare("ops.AuditPruning", "added", kind="history")
declare("ops.ObjectVersion", "added", kind="history")

declare_all("derived", "checks find it again", "ops.CheckState", "ops.Issue", "ops.IssueTarget", "ops.Sighting")
declare_all(
    "excluded",
    "it says what runs at the moment",
    "ops.Heartbeat",
    "ops.Process",
    "ops.NamedLock",
    "ops.Job",
    "ops.JobLine",
)
declare_all(
    "excluded",
    "results and logs of machines, which would be of another time",
    "ops.CheckResult",
    "ops.LogLine",
    "ops.Capture",
    "ops.Exchange",
)
declare_all("excluded", "answers to requests that were repeated within a day", "ops.IdempotencyRecord")
declare_all("excluded", "alerts of another time would be sent", "ops.AlertMessage")
declare_all("excluded", "its way back leads to rows of another time", "ops.RepairRun")
declare_all(
    "excluded",
    "it describes files that lie elsewhere, and is read from them again",
    "ops.Backup",
    "ops.BackupCopy",
    "ops.BackupDrill",
)
declare_all(
    "excluded",
    "it says what was done to these rows, not what they are",
    "ops.Restore",
    "ops.RestoreEpoch",
    "ops.Release",
)
