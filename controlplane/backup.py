"""What becomes of the models of Django and of the libraries in a backup."""

from __future__ import annotations

from ops.backup.scopes import declare, declare_all

declare("contenttypes.ContentType", "lookup", kind="people", natural=("app_label", "model"))
declare("auth.Permission", "lookup", kind="people", natural=("content_type", "codename"))
declare("auth.Group", "kept", kind="people", natural=("name",))
declare("auth.Group_permissions", "kept", kind="people")
declare("account.EmailAddress", "kept", kind="people")
declare("mfa.Authenticator", "kept", kind="people", observed=("last_used_at",))

declare_all(
    "excluded",
    "what signs somebody in is never brought back: it may have been ended since",
    "sessions.Session",
    "usersessions.UserSession",
    "account.EmailConfirmation",
    "controlplane.SetupLink",
)
declare_all("excluded", "the audit log says more", "admin.LogEntry")
