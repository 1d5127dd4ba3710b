"""What becomes of people and of what they said in a backup."""

from __future__ import annotations

from chat.search import index
from ops.backup.hooks import register_bulk
from ops.backup.scopes import declare, declare_all

declare(
    "chat.Person",
    "kept",
    kind="people",
    natural=("username",),
    observed=("last_login", "access_epoch"),
    revoked=("is_active",),
)
declare("chat.Person_groups", "kept", kind="people")
declare("chat.Person_user_permissions", "kept", kind="people")
declare("chat.AgentGrant", "kept", kind="people", natural=("person", "agent"))
declare("chat.Invite", "kept", kind="people", revoked=("revoked_at",))
declare("chat.Invite_agents", "kept", kind="people")
declare("chat.InviteUse", "kept", kind="people")
declare("chat.Quota", "kept", kind="people")
declare("chat.SigningKey", "kept", kind="people", natural=("kid",), revoked=("retired_at",))

for _label in (
    "Conversation",
    "Participant",
    "Link",
    "Message",
    "Attachment",
    "Turn",
    "Delivery",
    "Membership",
    "ClientPrefix",
):
    declare(f"chat.{_label}", "kept", kind="conversations")
declare("chat.ShareLink", "kept", kind="conversations", natural=("digest",), revoked=("revoked_at",))
declare("chat.ImportedRow", "kept", kind="conversations")
declare("chat.Impersonation", "added", kind="history")
declare("chat.UsageDay", "added", kind="history")

declare_all(
    "excluded",
    "what signs somebody in is never brought back: it may have been ended since",
    "chat.ProgramLogin",
    "chat.SocketTicket",
)
declare_all(
    "excluded",
    "logs of a few weeks, which would be of another time",
    "chat.AccessAttempt",
    "chat.RefusedEvent",
    "chat.SocketClose",
)
declare_all("excluded", "a restore begins a new epoch", "chat.IntakeEpoch")
declare_all("excluded", "a place in the homeserver's present stream, not in that of another time", "chat.SyncCursor")

# Quicker made once than kept with each of a million rows.
register_bulk("search", before=index.remove, after=index.install)
