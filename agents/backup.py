"""What becomes of agents, accounts and rooms in a backup."""

from __future__ import annotations

from ops.backup.scopes import declare, declare_all

declare("agents.Agent", "kept", kind="mappings", natural=("service", "external_id"))
declare(
    "agents.Account",
    "kept",
    kind="mappings",
    natural=("user_id",),
    # The session of this moment works; that of the backup may have ended, and of an account made since nobody else has the password.
    opens=("secrets", "way", "session", "session_error", "session_checked_at", "session_retry_at"),
)
declare(
    "agents.Room",
    "kept",
    kind="mappings",
    natural=("room_id",),
    observed=("look_wanted_at", "looked_at", "history_until", "caught_up_epoch", "last_event_id", "last_event_at"),
)
declare(
    "agents.Mapping", "kept", kind="mappings", natural=("agent",), observed=("problem", "problem_since", "updated_at")
)
declare("agents.Invitation", "kept", kind="mappings", natural=("room", "user_id"), observed=("updated_at",))
declare("agents.MappingImport", "kept", kind="mappings")
declare("agents.MappingImportRow", "kept", kind="mappings")
declare("agents.MemoryEdit", "added", kind="history")

declare_all("derived", "the next sync finds it again", "agents.Drift")
declare_all("excluded", "how a pass of another time went", "agents.SyncRun")
declare_all("excluded", "whoever was refused is asked again, and pauses anew", "agents.InviteePause")
