"""Django's settings, all of them. Values come from ``controlplane.options`` through ``controlplane.env``."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.conf import global_settings

from controlplane.env import env_file, read_environment
from controlplane.options import NOT_NEEDED, OPTIONS, PREFIXES
from ops.logs import configure as configure_logging

BASE_DIR = Path(__file__).resolve().parent.parent
ENVIRONMENT = read_environment(OPTIONS, base_dir=BASE_DIR, known_elsewhere=NOT_NEEDED, prefixes=PREFIXES)
ENV_FILE = env_file(BASE_DIR)
_env = ENVIRONMENT

VERSION = "0.1.0"
DATA_DIR: Path = Path(_env["DATA_DIR"] or BASE_DIR / "var").resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)

DEBUG: bool = _env["DEBUG"]
SECRET_KEY: str = _env["SECRET_KEY"]
FIELD_ENCRYPTION_KEYS: list[str] = _env["FIELD_ENCRYPTION_KEYS"]
BACKUP_MACHINE_KEY: str = _env["BACKUP_MACHINE_KEY"]
BACKUP_BEFORE_UPGRADE: bool = _env["BACKUP_BEFORE_UPGRADE"]

HOST: str = _env["HOST"]
PORT: int = _env["PORT"]
_ANY = {"0.0.0.0", "::"}  # noqa: S104 - named only to be left out of links
_reached_as = "127.0.0.1" if HOST in _ANY else f"[{HOST}]" if ":" in HOST else HOST
PUBLIC_URL: str = _env["PUBLIC_URL"] or f"http://{_reached_as}:{PORT}"
_public_host = urlsplit(PUBLIC_URL).hostname or ""
ALLOWED_HOSTS = sorted({*_env["ALLOWED_HOSTS"], _public_host, "127.0.0.1", "localhost", "[::1]", ".localhost"} - {""})
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
ALLOWED_ORIGINS: list[str] = _env["ALLOWED_ORIGINS"]
TRUST_PROXY: bool = _env["TRUST_PROXY"]
if TRUST_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    USE_X_FORWARDED_HOST = True
_secure = PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _secure
SESSION_COOKIE_NAME = "switchboard_session"
CSRF_COOKIE_NAME = "switchboard_csrf"
CSRF_FAILURE_VIEW = "chat.portal.forged.csrf_failure"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# Pages of other sites may call what takes a bearer token, and only that; which sites: controlplane.cors.
CORS_URLS_REGEX = r"^/(?:v1|api/auth|api/v1/chat|agentx)/"
CORS_EXPOSE_HEADERS = ["x-request-id", "retry-after"]
ACCESS_TOKEN_MINUTES: int = _env["ACCESS_TOKEN_MINUTES"]
REFRESH_TOKEN_DAYS: int = _env["REFRESH_TOKEN_DAYS"]

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "controlplane.pages.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "csp",
    "corsheaders",
    "channels",
    "ninja",
    "ops",
    "agents",
    "chat",
    "controlplane",
]

MIDDLEWARE = [
    "ops.request_ids.RequestIdMiddleware",
    "ops.api.middleware.ProblemMiddleware",
    "ops.quiet_pages.QuietMiddleware",
    "ops.csrf.RefusedOriginMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "ops.static_files.StaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "controlplane.language.LanguageMiddleware",
    "django.middleware.common.CommonMiddleware",
    "ops.csrf.OriginCsrfMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "chat.portal.look.ReaderMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "controlplane.policy.PolicyMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "chat.portal.activity.ActivityMiddleware",
    "chat.access.looking.ImpersonationMiddleware",
]

ROOT_URLCONF = "controlplane.urls"
ASGI_APPLICATION = "controlplane.asgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "chat.access.looking.impersonation",
            ]
        },
    }
]

AUTH_USER_MODEL = "chat.Person"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
PASSWORD_HASHERS = [
    *global_settings.PASSWORD_HASHERS,
    # Passwords that came from Portagent; they are stored in the first one's way at the next sign-in.
    "chat.access.hashers.PortagentBcryptHasher",
    "chat.access.hashers.PortagentPBKDF2Hasher",
]
REGISTRATION: str = _env["REGISTRATION"]
PORTAGENT_DAILY_CODE: bool = _env["PORTAGENT_DAILY_CODE"]
# How many proxies in front of us write X-Forwarded-For.
ALLAUTH_TRUSTED_PROXY_COUNT = 1 if TRUST_PROXY else 0

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
if _env["DATABASE_URL"]:
    DATABASES: dict[str, Any] = {"default": environ.Env.db_url_config(_env["DATABASE_URL"])}
    # Threads of workers and of the web server keep their connections; a dead one is noticed before it is used.
    DATABASES["default"].setdefault("CONN_MAX_AGE", 300)
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATA_DIR / "switchboard.sqlite3",
            # Requests run in threads that end with them; workers open again in a fraction of a millisecond.
            "CONN_MAX_AGE": 0,
            "OPTIONS": {
                # Write transactions take the lock at BEGIN and wait for it, instead of failing half way through.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": (
                    "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA temp_store=MEMORY; "
                    "PRAGMA mmap_size=134217728; PRAGMA cache_size=-16000;"
                ),
            },
        }
    }

REDIS_URL: str = _env["REDIS_URL"]
CHANNEL_LAYERS: dict[str, Any] = {
    "default": (
        # The pub/sub layer: the default Redis layer silently drops past 100 messages a channel.
        {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
        if REDIS_URL
        else {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 2000}}
    )
}

CACHES: dict[str, Any] = {
    "default": (
        {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL, "KEY_PREFIX": "switchboard"}
        if REDIS_URL
        else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}}
    )
}

CELERY_BROKER_URL: str = _env["CELERY_BROKER_URL"] or REDIS_URL or "memory://"
EMBEDDED: bool = CELERY_BROKER_URL.startswith("memory://")
WORKER_CONCURRENCY: int = _env["WORKER_CONCURRENCY"]
PROCESS_MANAGER: str = _env["PROCESS_MANAGER"]
PROCESS_UNITS: list[str] = _env["PROCESS_UNITS"]
DOCKER_HOST: str = _env["DOCKER_HOST"]
DEPLOY_FILES: list[str] = _env["DEPLOY_FILES"]

MATRIX_HOMESERVER_URL: str = _env["MATRIX_HOMESERVER_URL"]
MATRIX_SERVER_NAME: str = _env["MATRIX_SERVER_NAME"]
MATRIX_MODE: str = _env["MATRIX_MODE"]
MATRIX_USERNAME: str = _env["MATRIX_USERNAME"]
MATRIX_PASSWORD: str = _env["MATRIX_PASSWORD"]
MATRIX_ACCESS_TOKEN: str = _env["MATRIX_ACCESS_TOKEN"]
MATRIX_REGISTRATION_TOKEN: str = _env["MATRIX_REGISTRATION_TOKEN"]
MATRIX_ADMIN_USERNAME: str = _env["MATRIX_ADMIN_USERNAME"]
MATRIX_ADMIN_PASSWORD: str = _env["MATRIX_ADMIN_PASSWORD"]
MATRIX_ADMIN_TOKEN: str = _env["MATRIX_ADMIN_TOKEN"]
MATRIX_APPSERVICE_ID: str = _env["MATRIX_APPSERVICE_ID"]
MATRIX_APPSERVICE_URL: str = _env["MATRIX_APPSERVICE_URL"] or PUBLIC_URL
MATRIX_AS_TOKEN: str = _env["MATRIX_AS_TOKEN"]
MATRIX_HS_TOKEN: str = _env["MATRIX_HS_TOKEN"]
MATRIX_SENDER_LOCALPART: str = _env["MATRIX_SENDER_LOCALPART"]
MATRIX_USER_PREFIX: str = _env["MATRIX_USER_PREFIX"]
MATRIX_SPACE_NAME: str = _env["MATRIX_SPACE_NAME"]
MATRIX_INVITE: list[str] = _env["MATRIX_INVITE"]
MATRIX_ROOMS: str = _env["MATRIX_ROOMS"]
MATRIX_CLIENT_URL: str = _env["MATRIX_CLIENT_URL"]
MATRIX_REGISTRATION_SHARED_SECRET: str = _env["MATRIX_REGISTRATION_SHARED_SECRET"]
MATRIX_EDIT_INTERVAL: float = _env["MATRIX_EDIT_INTERVAL"]

DISABLED_AGENT_IDS: list[str] = _env["DISABLED_AGENT_IDS"]
SYNC_INTERVAL: float = _env["SYNC_INTERVAL"]
NEW_AGENT_WEBHOOK_TOKEN: str = _env["NEW_AGENT_WEBHOOK_TOKEN"]
TURN_TIMEOUT: float = _env["TURN_TIMEOUT"]
TURN_ATTEMPTS: int = _env["TURN_ATTEMPTS"]
DELIVERY_ATTEMPTS: int = _env["DELIVERY_ATTEMPTS"]
APPROVAL_TIMEOUT: float = _env["APPROVAL_TIMEOUT"]
HISTORY_MESSAGES: int = _env["HISTORY_MESSAGES"]
MAX_HOPS: int = _env["MAX_HOPS"]
AGENT_REPLIES_PER_MINUTE: int = _env["AGENT_REPLIES_PER_MINUTE"]
FANOUT_LIMIT: int = _env["FANOUT_LIMIT"]
MAX_MESSAGE_CHARS: int = _env["MAX_MESSAGE_CHARS"]
ATTACHMENT_MAX_MB: int = _env["ATTACHMENT_MAX_MB"]
ATTACHMENTS_DIR: Path = Path(_env["ATTACHMENTS_DIR"] or DATA_DIR / "attachments").resolve()
HEARTBEAT_URL: str = _env["HEARTBEAT_URL"]
HEARTBEAT_INTERVAL: float = _env["HEARTBEAT_INTERVAL"]
METRICS_TOKEN: str = _env["METRICS_TOKEN"]
SHOW_API_DOCS: bool = _env["SHOW_API_DOCS"]
STATUS_PAGE: bool = _env["STATUS_PAGE"]
STATUS_PAGE_TITLE: str = _env["STATUS_PAGE_TITLE"]
STATUS_PAGE_LABELS: list[str] = _env["STATUS_PAGE_LABELS"]

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
# What comes in is written here first: a backup of several GB, where the system's own folder may be memory.
FILE_UPLOAD_TEMP_DIR = DATA_DIR / "incoming"
FILE_UPLOAD_TEMP_DIR.mkdir(exist_ok=True, mode=0o700)
DATA_UPLOAD_MAX_MEMORY_SIZE = 50 * 1024 * 1024  # an appservice transaction may be large; see chat.matrix.views

LOG_LEVEL: str = _env["LOG_LEVEL"]
LOG_FORMAT: str = _env["LOG_FORMAT"]
LOGGING_CONFIG = None
configure_logging(
    level=LOG_LEVEL,
    form=LOG_FORMAT,
    secrets=[
        value
        for option in OPTIONS
        if option.secret
        for value in (_env[option.name] if isinstance(_env[option.name], list) else [_env[option.name]])
        if isinstance(value, str)
    ],
)

from controlplane.accounts import *  # noqa: E402, F403
from controlplane.accounts import mail_settings  # noqa: E402
from controlplane.policy import CONTENT_SECURITY_POLICY  # noqa: E402, F401
from controlplane.skin import UNFOLD  # noqa: E402, F401

_mail = mail_settings(_env["EMAIL_URL"], _env["EMAIL_FROM"], _public_host, ENVIRONMENT.problems)
# Whether a mail server is set, so that links reach people by themselves.
MAIL: bool = bool(_mail.pop("MAIL"))
globals().update(_mail)
