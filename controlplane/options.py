"""Every setting of Switchboard: name, type, default, meaning. ``docs/configuration.md`` is made from this list."""

from __future__ import annotations

import secrets

from cryptography.fernet import Fernet
from pyrage import x25519

from controlplane.env import Option


def _token() -> str:
    return secrets.token_urlsafe(48)


def _fernet_key() -> str:
    return Fernet.generate_key().decode()


def _age_key() -> str:
    return str(x25519.Identity.generate())


OPTIONS: tuple[Option, ...] = (
    # DATA_DIR stays first: generated keys are kept below it.
    Option(
        "DATA_DIR",
        "Folder for the database, keys, logs and the local homeserver.",
        "path",
        None,
        ("SWITCHBOARD_DATA_DIR",),
    ),
    Option(
        "SWITCHBOARD_ENV_FILE",
        "File with settings that the environment does not give. `.env` beside `manage.py` when not set.",
        "path",
        None,
    ),
    Option("DEBUG", "Django's debug pages. Never in production.", "bool", False),
    Option(
        "SECRET_KEY",
        "Signs sessions and links. Generated once when not set.",
        secret=True,
        generate=_token,
        aliases=("DJANGO_SECRET_KEY",),
    ),
    Option(
        "FIELD_ENCRYPTION_KEYS",
        "Fernet keys, newest first, comma-separated: they encrypt secrets in the database. Generated once when not set.",
        "list",
        [],
        secret=True,
        generate=_fernet_key,
    ),
    Option(
        "BACKUP_MACHINE_KEY",
        "age key (AGE-SECRET-KEY-1…) with which this installation opens its own backups, for drills and restores on the spot. Generated once "
        "when not set; it goes into no backup. Recovery keys, which open them anywhere, are made by `manage.py backup key new`.",
        secret=True,
        generate=_age_key,
    ),
    Option("HOST", "Address the web server listens on.", default="127.0.0.1", aliases=("API_HOST",), group="Web"),
    Option("PORT", "Port the web server listens on.", "int", 8000, aliases=("API_PORT",), floor=0, group="Web"),
    Option(
        "PUBLIC_URL",
        "Address at which people reach Switchboard, for links. Made from HOST and PORT when not set.",
        "url",
        "",
        group="Web",
    ),
    Option(
        "ALLOWED_HOSTS",
        "Host names that may be asked for, comma-separated. Those of PUBLIC_URL and loopback are always allowed.",
        "list",
        [],
        group="Web",
    ),
    Option(
        "ALLOWED_ORIGINS",
        "Web addresses besides PUBLIC_URL from which browsers may sign in, call the API and open sockets, comma-separated "
        "(https://chat.example.org). May also be changed live.",
        "list",
        [],
        group="Web",
    ),
    Option(
        "TRUST_PROXY",
        "Trust X-Forwarded-Proto, X-Forwarded-Host and the last entry of X-Forwarded-For: those of the reverse proxy in front.",
        "bool",
        False,
        group="Web",
    ),
    Option(
        "SHOW_API_DOCS",
        "Serve the API description at /api/docs to people who are not signed in.",
        "bool",
        False,
        group="Web",
    ),
    Option(
        "ACCESS_TOKEN_MINUTES",
        "Minutes for which a program's access token counts; then it fetches another with its refresh token.",
        "int",
        15,
        floor=1,
        group="Web",
    ),
    Option(
        "REFRESH_TOKEN_DAYS",
        "Days after which a program that was not used has to sign in again.",
        "int",
        30,
        floor=1,
        group="Web",
    ),
    Option(
        "STATUS_PAGE",
        "Show a public status page at /status and /status.json: what works and how it was, without names or addresses.",
        "bool",
        False,
        group="Web",
    ),
    Option("STATUS_PAGE_TITLE", "Name on the public status page.", default="Switchboard", group="Web"),
    Option(
        "STATUS_PAGE_LABELS",
        "What the public status page shows and calls it, for example messages=Answers,service:letta=Our agents.",
        "list",
        [],
        group="Web",
    ),
    Option(
        "METRICS_TOKEN",
        "Bearer token that /metrics asks for. Without one only signed-in operators and loopback may read it.",
        secret=True,
        group="Web",
    ),
    Option(
        "DATABASE_URL",
        "PostgreSQL address. SQLite in the data directory when not set.",
        "url",
        "",
        aliases=("SWITCHBOARD_DATABASE_URL",),
        secret=True,
        group="Scaled mode",
    ),
    Option(
        "REDIS_URL",
        "Redis for the channel layer, and for Celery when CELERY_BROKER_URL is not set.",
        "url",
        "",
        secret=True,
        group="Scaled mode",
    ),
    Option(
        "CELERY_BROKER_URL",
        "Celery's broker (Redis or RabbitMQ). In-process when neither this nor REDIS_URL is set.",
        "url",
        "",
        secret=True,
        group="Scaled mode",
    ),
    Option("WORKER_CONCURRENCY", "Threads of one worker process.", "int", 48, floor=4, group="Scaled mode"),
    Option(
        "PROCESS_MANAGER",
        "Who starts Switchboard's processes, so that its buttons can: systemd, docker, local (Switchboard itself, on its own "
        "host), or none (the operator is shown the command).",
        default="none",
        choices=("none", "systemd", "docker", "local"),
        group="Processes",
    ),
    Option(
        "PROCESS_UNITS",
        "Units or containers by role, when they are called otherwise than in deploy/: web=NAME,worker=NAME,beat=NAME.",
        "list",
        [],
        group="Processes",
    ),
    Option(
        "DOCKER_HOST",
        "Docker's socket, for PROCESS_MANAGER=docker. Whoever may use it is root on that host.",
        default="unix:///var/run/docker.sock",
        group="Processes",
    ),
    Option(
        "DEPLOY_FILES",
        "Compose files and systemd units in use, comma-separated, for checks to read. Those in deploy/ when not set.",
        "list",
        [],
        group="Processes",
    ),
    Option(
        "MATRIX_HOMESERVER_URL",
        "Client-server address of the homeserver. `up` starts a local one when not set.",
        "url",
        "",
        aliases=("MATRIX_HOMESERVER", "HOMESERVER_URL"),
        group="Matrix",
    ),
    Option(
        "MATRIX_SERVER_NAME",
        "The homeserver's name (the part of a Matrix id behind the colon). Found by asking when not set.",
        default="",
        aliases=("MATRIX_DOMAIN",),
        group="Matrix",
    ),
    Option(
        "MATRIX_MODE",
        "`appservice`: the homeserver knows Switchboard by a registration and sends it every event. `client`: no registration is "
        "possible there; every account has a session of its own, and Switchboard asks for events.",
        default="appservice",
        choices=("appservice", "client"),
        group="Matrix",
    ),
    Option(
        "MATRIX_USERNAME",
        "Client mode: Switchboard's own account on the homeserver (a name or a full Matrix id). MATRIX_SENDER_LOCALPART when not set.",
        default="",
        group="Matrix",
    ),
    Option(
        "MATRIX_PASSWORD",
        "Client mode: the password of that account. Not needed where accounts can be made (a registration secret or token).",
        secret=True,
        group="Matrix",
    ),
    Option(
        "MATRIX_ACCESS_TOKEN",
        "Client mode: an access token of that account, in place of its password.",
        secret=True,
        group="Matrix",
    ),
    Option(
        "MATRIX_REGISTRATION_TOKEN",
        "A registration token of the homeserver, with which client mode makes agents' accounts.",
        secret=True,
        group="Matrix",
    ),
    Option(
        "MATRIX_ADMIN_USERNAME",
        "An administrator of the homeserver, for making accounts and resetting passwords where nothing else can.",
        default="",
        group="Matrix",
    ),
    Option("MATRIX_ADMIN_PASSWORD", "The administrator's password.", secret=True, group="Matrix"),
    Option(
        "MATRIX_ADMIN_TOKEN", "The administrator's access token, in place of the password.", secret=True, group="Matrix"
    ),
    Option("MATRIX_APPSERVICE_ID", "Id of the appservice registration.", default="switchboard", group="Matrix"),
    Option(
        "MATRIX_APPSERVICE_URL",
        "Address at which the homeserver reaches Switchboard. PUBLIC_URL when not set.",
        "url",
        "",
        group="Matrix",
    ),
    Option(
        "MATRIX_AS_TOKEN",
        "Token that Switchboard shows the homeserver. Generated once when not set.",
        secret=True,
        generate=_token,
        group="Matrix",
    ),
    Option(
        "MATRIX_HS_TOKEN",
        "Token that the homeserver shows Switchboard. Generated once when not set.",
        secret=True,
        generate=_token,
        group="Matrix",
    ),
    Option(
        "MATRIX_SENDER_LOCALPART",
        "Name of Switchboard's own account; the space has the alias of the same name.",
        default="switchboard",
        group="Matrix",
    ),
    Option("MATRIX_USER_PREFIX", "What the names of agents' accounts start with.", default="agent_", group="Matrix"),
    Option(
        "MATRIX_SPACE_NAME", "Name of the space that lists the agents' rooms.", default="Letta Agents", group="Matrix"
    ),
    Option(
        "MATRIX_INVITE",
        "Matrix ids of people to invite to the space and to every agent's room, comma-separated.",
        "list",
        [],
        aliases=("MATRIX_INVITE_USERS",),
        group="Matrix",
    ),
    Option(
        "MATRIX_ROOMS",
        "When an agent's room is made: at once (eager), or when somebody first looks for it (lazy), for thousands of agents.",
        default="eager",
        choices=("eager", "lazy"),
        group="Matrix",
    ),
    Option(
        "MATRIX_CLIENT_URL",
        "Address of the Matrix client in which links open a room; the room id or alias is appended.",
        default="https://matrix.to/#/",
        group="Matrix",
    ),
    Option(
        "MATRIX_REGISTRATION_SHARED_SECRET",
        "Synapse's registration shared secret, to make accounts for operators on it.",
        secret=True,
        group="Matrix",
    ),
    Option(
        "MATRIX_EDIT_INTERVAL",
        "Least seconds between two edits of a streamed answer in a room.",
        "float",
        1.0,
        floor=1.0,
        group="Matrix",
    ),
    Option(
        "SWITCHBOARD_SYNAPSE_VENV",
        "Python environment that has Synapse, for the local homeserver. One is installed below DATA_DIR when not set.",
        "path",
        None,
        group="Matrix",
    ),
    Option(
        "LOCAL_HOMESERVER_PORT",
        "Port of the local homeserver on 127.0.0.1, or the next free one behind it. It counts for a new homeserver, which keeps it.",
        "int",
        8008,
        floor=1,
        group="Matrix",
    ),
    Option(
        "LETTA_BASE_URL",
        "Address of a Letta server.",
        "url",
        "",
        aliases=("LETTA_API_URL", "LETTA_SERVER_URL"),
        group="Backends",
    ),
    Option(
        "LETTA_TOKEN",
        "Password or token of the Letta server.",
        secret=True,
        aliases=("LETTA_API_KEY", "LETTA_PASSWORD"),
        group="Backends",
    ),
    Option(
        "OPENAI_BASE_URL",
        "Address of an OpenAI-compatible server whose models are agents (with /v1).",
        "url",
        "",
        aliases=("OPENAI_API_BASE",),
        group="Backends",
    ),
    Option("OPENAI_API_KEY", "Key of the OpenAI-compatible server.", secret=True, group="Backends"),
    Option(
        "OPENAI_MODELS",
        "Which of its models become agents (names or globs, comma-separated). All when not set.",
        "list",
        [],
        group="Backends",
    ),
    Option(
        "ANTHROPIC_API_KEY",
        "Key of Anthropic's API, or of a server that speaks it.",
        secret=True,
        aliases=("LLM_PROVIDER_KEY",),
        group="Backends",
    ),
    Option(
        "ANTHROPIC_BASE_URL",
        "Address of a server that speaks Anthropic's API.",
        "url",
        "https://api.anthropic.com",
        aliases=("LLM_PROVIDER_URL",),
        group="Backends",
    ),
    Option(
        "ANTHROPIC_MODEL",
        "Model of agents that name none.",
        default="claude-sonnet-4-20250514",
        aliases=("LLM_PROVIDER_MODEL",),
        group="Backends",
    ),
    Option(
        "DEMO_AGENTS",
        "Have the demo agents: always (true), never (false), or only while no other backend is set (auto).",
        default="auto",
        choices=("auto", "true", "false"),
        group="Backends",
    ),
    Option("DISABLED_AGENT_IDS", "Ids of agents that get no room, comma-separated.", "list", [], group="Agents"),
    Option(
        "SYNC_INTERVAL",
        "Seconds between two syncs of agents (at least 5).",
        "float",
        60.0,
        aliases=("MATRIX_AGENT_SYNC_INTERVAL",),
        floor=5,
        group="Agents",
    ),
    Option(
        "NEW_AGENT_WEBHOOK_TOKEN",
        "Bearer token for POST /webhook/new-agent besides operators' tokens.",
        secret=True,
        group="Agents",
    ),
    Option("TURN_TIMEOUT", "Seconds a turn may wait for more of an answer.", "float", 180.0, floor=1, group="Messages"),
    Option(
        "TURN_ATTEMPTS",
        "How often a message is given to a backend that fails before it becomes a dead letter.",
        "int",
        4,
        floor=1,
        group="Messages",
    ),
    Option(
        "DELIVERY_ATTEMPTS",
        "How often a delivery is tried before it becomes a dead letter.",
        "int",
        12,
        floor=1,
        group="Messages",
    ),
    Option(
        "APPROVAL_TIMEOUT",
        "Seconds after which a tool call that nobody allowed counts as denied.",
        "float",
        86_400.0,
        floor=1,
        group="Messages",
    ),
    Option(
        "HISTORY_MESSAGES",
        "How many earlier messages a backend without a memory of its own is sent.",
        "int",
        40,
        floor=0,
        group="Messages",
    ),
    Option(
        "MAX_HOPS",
        "How often agents may answer each other before a person has to speak.",
        "int",
        3,
        floor=0,
        group="Guards",
    ),
    Option(
        "AGENT_REPLIES_PER_MINUTE",
        "How many messages of agents one conversation answers in a minute.",
        "int",
        6,
        floor=0,
        group="Guards",
    ),
    Option(
        "FANOUT_LIMIT",
        "To how many agents one sender may say the same thing within a minute.",
        "int",
        25,
        floor=1,
        group="Guards",
    ),
    Option(
        "MAX_MESSAGE_CHARS",
        "The longest message an agent is given, in characters.",
        "int",
        200_000,
        floor=1000,
        group="Guards",
    ),
    Option(
        "ATTACHMENT_MAX_MB",
        "The largest file that people may send to agents, in megabytes.",
        "int",
        20,
        floor=1,
        group="Attachments",
    ),
    Option(
        "ATTACHMENTS_DIR",
        "Folder for files that people send; attachments/ below DATA_DIR when not set. In scaled mode all web servers and workers need the "
        "same one.",
        "path",
        None,
        group="Attachments",
    ),
    Option(
        "REGISTRATION",
        "Who may join the portal: anybody (open), whoever has an invitation (invite), nobody (closed). Operators change it live.",
        default="invite",
        choices=("open", "invite", "closed"),
        group="People",
    ),
    Option(
        "PORTAGENT_DAILY_CODE",
        "Accept Portagent's daily invitation code, which anybody can work out. For a transition only.",
        "bool",
        False,
        group="People",
    ),
    Option(
        "EMAIL_URL",
        "Mail server for links to people, for example smtp+tls://user:password@mail.example.org:587 (smtp+ssl:// for port 465). "
        "Without one operators are shown the links.",
        "url",
        "",
        secret=True,
        group="People",
    ),
    Option("EMAIL_FROM", "Sender of these mails. switchboard@ the host of PUBLIC_URL when not set.", group="People"),
    Option(
        "HEARTBEAT_URL",
        "Address of a dead-man switch (healthchecks.io or the like) that is pinged while all is well; /fail is appended while it is not.",
        "url",
        "",
        secret=True,
        group="Alerts",
    ),
    Option("HEARTBEAT_INTERVAL", "Seconds between two such pings.", "float", 60.0, floor=10, group="Alerts"),
    Option(
        "LOG_LEVEL",
        "debug, info, warning or error.",
        default="info",
        choices=("debug", "info", "warning", "error"),
        group="Logs",
    ),
    Option("LOG_FORMAT", "console or json.", default="console", choices=("console", "json"), group="Logs"),
    Option(
        "SWITCHBOARD_IMAGE",
        "Container image that this installation runs from, with its registry: the doctor asks whether it can be pulled.",
        group="Containers",
    ),
    Option(
        "SWITCHBOARD_IMAGE_MIRRORS",
        "Registries that have the same image, comma-separated (host, or host/folder).",
        "list",
        [],
        group="Containers",
    ),
)

PREFIXES = ("MATRIX_", "LETTA_", "LLM_", "SWITCHBOARD_", "OPENAI_", "ANTHROPIC_", "AGENTX_")

NOT_NEEDED: dict[str, str] = {
    "MATRIX_ROOM_ID": "Every agent has a room of its own.",
    "MATRIX_DATA_DIR": "DATA_DIR names the data directory.",
    "MATRIX_EVENT_DEDUPE_DB": "Events are deduplicated in the database.",
    "MATRIX_EVENT_DEDUPE_TTL": "Events are deduplicated for good.",
    "LETTA_AGENT_ID": "All agents of the server are connected.",
    "AGENTX_DIR": "DATA_DIR names the data directory.",
    "JWT_SECRET": "Keys that sign access tokens are made once and kept in the database: manage.py signing_keys.",
    "DEV_MODE": "Accounts have no passwords.",
}
