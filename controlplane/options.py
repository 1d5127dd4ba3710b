"""Every setting of Switchboard: name, type, default, meaning. ``docs/configuration.md`` is made from this list."""

from __future__ import annotations

import secrets

from cryptography.fernet import Fernet

from controlplane.env import Option


def _token() -> str:
    return secrets.token_urlsafe(48)


def _fernet_key() -> str:
    return Fernet.generate_key().decode()


OPTIONS: tuple[Option, ...] = (
    # DATA_DIR stays first: generated keys are kept below it.
    Option(
        "DATA_DIR",
        "Folder for the database, keys, logs and the local homeserver.",
        "path",
        None,
        ("SWITCHBOARD_DATA_DIR",),
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
        "TRUST_PROXY",
        "Trust X-Forwarded-Proto and X-Forwarded-Host of a reverse proxy in front.",
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
        "LOG_LEVEL",
        "debug, info, warning or error.",
        default="info",
        choices=("debug", "info", "warning", "error"),
        group="Logs",
    ),
    Option("LOG_FORMAT", "console or json.", default="console", choices=("console", "json"), group="Logs"),
)

PREFIXES = ("MATRIX_", "LETTA_", "LLM_", "SWITCHBOARD_", "OPENAI_", "ANTHROPIC_", "AGENTX_")

NOT_NEEDED: dict[str, str] = {
    "MATRIX_USERNAME": "Agents speak through the appservice; no account needs a password.",
    "MATRIX_PASSWORD": "Agents speak through the appservice; no account needs a password.",
    "MATRIX_ADMIN_USERNAME": "The appservice needs no administrator account.",
    "MATRIX_ADMIN_PASSWORD": "The appservice needs no administrator account.",
    "MATRIX_ROOM_ID": "Every agent has a room of its own.",
    "MATRIX_DATA_DIR": "DATA_DIR names the data directory.",
    "MATRIX_EVENT_DEDUPE_DB": "Events are deduplicated in the database.",
    "MATRIX_EVENT_DEDUPE_TTL": "Events are deduplicated for good.",
    "MATRIX_REGISTRATION_TOKEN": "Accounts are made by the appservice.",
    "LETTA_AGENT_ID": "All agents of the server are connected.",
    "AGENTX_DIR": "DATA_DIR names the data directory.",
    "JWT_SECRET": "SECRET_KEY is generated once and survives restarts.",
    "DEV_MODE": "Accounts have no passwords.",
}
