"""The admin's face: name, mark, colours, navigation. Colours have one home for pages (``static/switchboard/admin.css``); the theme
takes the same ones here, as shades of paper and ink (``base``) and of brass (``primary``)."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _mark(name: str) -> Any:
    return lambda request: static(f"switchboard/{name}")


def _on_turns(request: HttpRequest) -> bool:
    """The dead letters live below the turns' address and have an entry of their own."""
    turns, dead = str(reverse_lazy("admin:chat_turn_changelist")), str(reverse_lazy("admin:dead_letters"))
    return request.path.startswith(turns) and not request.path.startswith(dead)


def _on_settings(request: HttpRequest) -> bool:
    """Retention lives below the settings' address and has an entry of its own."""
    all_of_them, retention = str(reverse_lazy("admin:ops_livesetting_changelist")), str(reverse_lazy("admin:retention"))
    return request.path.startswith(all_of_them) and not request.path.startswith(retention)


def _on_backups(request: HttpRequest) -> bool:
    """Backups with their places, keys and plan are one place."""
    names = ("ops_backup", "ops_backupdestination", "ops_backupkey")
    return request.path.startswith(tuple(str(reverse_lazy(f"admin:{name}_changelist")) for name in names))


def _on_restores(request: HttpRequest) -> bool:
    """Beginning anew lives below the restores' address and has an entry of its own."""
    restores, reset = str(reverse_lazy("admin:ops_restore_changelist")), str(reverse_lazy("admin:reset"))
    return request.path.startswith(restores) and not request.path.startswith(reset)


def _on_invites(request: HttpRequest) -> bool:
    """The import lives below the invitations' address and has an entry of its own."""
    invites, bring = str(reverse_lazy("admin:chat_invite_changelist")), str(reverse_lazy("admin:portagent"))
    return request.path.startswith(invites) and not request.path.startswith(bring)


def _on_attempts(request: HttpRequest) -> bool:
    """The check of sockets lives below the attempts' address and has an entry of its own."""
    attempts, check = str(reverse_lazy("admin:chat_accessattempt_changelist")), str(reverse_lazy("admin:socket_check"))
    return request.path.startswith(attempts) and not request.path.startswith(check)


def _on_quotas(request: HttpRequest) -> bool:
    """The page of use lives below the quotas' address and has an entry of its own."""
    quotas, use = str(reverse_lazy("admin:chat_quota_changelist")), str(reverse_lazy("admin:usage"))
    return request.path.startswith(quotas) and not request.path.startswith(use)


def _on_accounts(request: HttpRequest) -> bool:
    """The homeserver's page lives below the accounts' address and has an entry of its own."""
    accounts, place = str(reverse_lazy("admin:agents_account_changelist")), str(reverse_lazy("admin:homeserver"))
    return request.path.startswith(accounts) and not request.path.startswith(place)


def _on_checks(request: HttpRequest) -> bool:
    """The board lives below the checks' address and has an entry of its own."""
    checks, board = str(reverse_lazy("admin:ops_checkstate_changelist")), str(reverse_lazy("admin:board"))
    return request.path.startswith(checks) and not request.path.startswith(board)


def _on_repairs(request: HttpRequest) -> bool:
    """Issues, plans and receipts are one place."""
    places = (reverse_lazy("admin:ops_issue_changelist"), reverse_lazy("admin:ops_repairrun_changelist"))
    return request.path.startswith(tuple(str(place) for place in places))


def _on_logs(request: HttpRequest) -> bool:
    """The support bundle lives below the address of the logs and has an entry of its own; known errors belong to the logs."""
    logs, support = str(reverse_lazy("admin:ops_logline_changelist")), str(reverse_lazy("admin:support"))
    known = str(reverse_lazy("admin:ops_errorsignature_changelist"))
    return request.path.startswith((logs, known)) and not request.path.startswith(support)


def _item(title: str, icon: str, view: str, badge: str = "", badge_class: str = "") -> dict[str, Any]:
    item: dict[str, Any] = {"title": title, "icon": icon, "link": reverse_lazy(f"admin:{view}")}
    if badge:
        item |= {"badge": f"controlplane.admin_site.{badge}", "badge_class": badge_class}
    return item


NAVIGATION: list[dict[str, Any]] = [
    {"items": [_item("Dashboard", "space_dashboard", "index")]},
    {
        "title": "Who is connected",
        "items": [
            _item("Agents", "support_agent", "agents_agent_changelist"),
            _item("Mappings", "cable", "agents_mapping_changelist", "badge_mappings"),
            _item("Rooms", "meeting_room", "agents_room_changelist"),
            {**_item("Accounts", "alternate_email", "agents_account_changelist"), "active": _on_accounts},
            _item("Homeserver", "hub", "homeserver"),
            _item("Drift", "difference", "agents_drift_changelist", "badge_drift", "sb-badge-attention"),
            _item("Import mappings", "move_to_inbox", "agents_mappingimport_changelist"),
            _item("Syncs", "sync", "agents_syncrun_changelist", "badge_sync", "sb-badge-attention"),
        ],
    },
    {
        "title": "What was said",
        "items": [
            _item("Conversations", "forum", "chat_conversation_changelist"),
            {**_item("Turns", "swap_horiz", "chat_turn_changelist"), "active": _on_turns},
            _item("Deliveries", "outbox", "chat_delivery_changelist"),
            _item("Dead letters", "mark_email_unread", "dead_letters", "badge_dead_letters"),
            _item("Refused events", "block", "chat_refusedevent_changelist"),
            _item("Files", "attach_file", "chat_attachment_changelist"),
        ],
    },
    {
        "title": "Is it well",
        "items": [
            {**_item("Repairs", "healing", "ops_issue_changelist", "badge_issues"), "active": _on_repairs},
            _item("Status board", "lightbulb", "board"),
            _item("Services", "dns", "ops_service_changelist"),
            {**_item("Checks", "fact_check", "ops_checkstate_changelist"), "active": _on_checks},
            {**_item("Settings", "tune", "ops_livesetting_changelist"), "active": _on_settings},
            _item("Retention", "auto_delete", "retention"),
            _item("Jobs", "pending_actions", "ops_job_changelist", "badge_jobs", "sb-badge-working"),
            _item("WebSocket check", "swap_calls", "socket_check"),
            {**_item("Logs", "article", "ops_logline_changelist"), "active": _on_logs},
            _item("Captured calls", "cell_tower", "ops_capture_changelist"),
            _item("Support bundle", "folder_zip", "support"),
            _item("Alert channels", "campaign", "ops_alertchannel_changelist"),
            _item("Alerts sent", "outgoing_mail", "ops_alertmessage_changelist"),
            _item("Maintenance", "engineering", "ops_maintenancewindow_changelist"),
        ],
    },
    {
        "title": "Could I lose anything",
        "items": [
            {**_item("Backups", "inventory_2", "ops_backup_changelist", "badge_backups"), "active": _on_backups},
            {**_item("Restores", "settings_backup_restore", "ops_restore_changelist"), "active": _on_restores},
            _item("What it was", "manage_history", "ops_objectversion_changelist"),
            _item("Begin anew", "restart_alt", "reset"),
            _item("Releases", "new_releases", "ops_release_changelist"),
        ],
    },
    {
        "title": "Who may do what",
        "items": [
            _item("People", "group", "chat_person_changelist"),
            {**_item("Invitations", "mail", "chat_invite_changelist"), "active": _on_invites},
            _item("Import from Portagent", "move_down", "portagent"),
            {**_item("Attempts to get in", "door_front", "chat_accessattempt_changelist"), "active": _on_attempts},
            {**_item("Quotas", "speed", "chat_quota_changelist"), "active": _on_quotas},
            _item("Use", "monitoring", "usage"),
            _item("API tokens", "key", "ops_apitoken_changelist"),
            _item("Memory changes", "history_edu", "agents_memoryedit_changelist"),
            _item("Audit log", "history", "ops_auditevent_changelist"),
        ],
    },
]

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Switchboard",
    "SITE_HEADER": "Switchboard",
    "SITE_SUBHEADER": "Agents, rooms, people",
    "SITE_URL": None,
    "SITE_ICON": {"light": _mark("mark-light.svg"), "dark": _mark("mark-dark.svg")},
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _mark("mark.svg")}],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "8px",
    "STYLES": [_mark("admin.css"), _mark("doctor.css"), _mark("logs.css"), _mark("backups.css")],
    "SCRIPTS": [_mark("admin.js"), _mark("doctor.js")],
    "DASHBOARD_CALLBACK": "controlplane.dashboard.dashboard",
    "COMMAND": {"search_models": False, "show_history": False, "search_callback": "controlplane.admin_site.search"},
    "SIDEBAR": {"show_search": True, "command_search": True, "show_all_applications": False, "navigation": NAVIGATION},
    "COLORS": {
        "base": {
            "50": "#faf8f4",
            "100": "#f3efe6",
            "200": "#e5dfd3",
            "300": "#cfd6de",
            "400": "#9aa6b4",
            "500": "#5d6672",
            "600": "#3d4753",
            "700": "#36455a",
            "800": "#2a3645",
            "900": "#10161f",
            "950": "#0b1017",
        },
        "primary": {
            "50": "#fbf6ea",
            "100": "#f6ead0",
            "200": "#ecd6a4",
            "300": "#e3c27c",
            "400": "#e0b761",
            "500": "#e0b15a",
            "600": "#8f6210",
            "700": "#7a530c",
            "800": "#62430a",
            "900": "#4b3408",
            "950": "#2c1e04",
        },
        "font": {
            "subtle-light": "#5d6672",
            "subtle-dark": "#9aa6b4",
            "default-light": "#1b232e",
            "default-dark": "#cfd6de",
            "important-light": "#1b232e",
            "important-dark": "#e9edf2",
        },
    },
}
