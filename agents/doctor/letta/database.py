"""``letta.db_unreachable``: Letta's own PostgreSQL, asked directly where its address is known here."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import psycopg

from agents.doctor.letta.common import letta_targets, named
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.models import Service
from ops.registry import CheckOutcome, Fix, register_check
from ops.words import counted, verb

CONNECT_SECONDS = 5
FEW_CONNECTIONS = 5
# What Letta's compose file and documentation ship with.
DEFAULT = ("letta", "letta")


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """A database address without its password, and the connection string with it."""

    host: str
    port: int
    name: str
    user: str
    default_password: bool
    conninfo: str
    password: str


def read_uri(uri: str) -> DatabaseAddress:
    """An address as Letta takes it (``postgresql+asyncpg://…``). Raises ``ValueError`` with a sentence that holds no secret."""
    plain = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", uri.strip())
    parts = urlsplit(plain)
    if parts.scheme != "postgresql":
        raise ValueError("The address of Letta's database must begin with postgresql://.")
    try:
        port = parts.port or 5432
    except ValueError:
        raise ValueError("The address of Letta's database names a port that is no number.") from None
    query = parse_qs(parts.query)
    host = query.get("host", [parts.hostname or "localhost"])[0]
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    # SQLAlchemy's drivers know options that libpq does not.
    known = {key: value for key, value in query.items() if key in ("host", "port", "sslmode", "sslrootcert", "options")}
    query_text = "&".join(f"{key}={value[0]}" for key, value in known.items())
    conninfo = plain.partition("?")[0] + (f"?{query_text}" if query_text else "")
    return DatabaseAddress(
        host, port, unquote(parts.path.lstrip("/")), user, (user, password) == DEFAULT, conninfo, password
    )


def uri_of(service: Service) -> str:
    """The stored address of the database, "" when none was given."""
    return str((service.credentials or {}).get("database_url") or "")


@register_check(
    "letta.db_unreachable",
    title="Letta's database answers",
    tags=["letta", "database"],
    interval=60,
    severity="critical",
    timeout=15,
    scope="service",
    targets=letta_targets,
    depends_on=["db.reachable"],
    opens_after=2,
    repairs=["config.edit"],
)
def db_unreachable(target: str) -> CheckOutcome:
    """Connects with Letta's own credentials, reads only. Skipped where the address is not known here: then Letta's own answers
    are all that can be seen of it, and ``backend.reachable`` sees those.
    """
    service = named(target)
    if service is None:
        return CheckOutcome("skip", "The service is switched off or was removed.")
    uri = uri_of(service)
    if not uri:
        return CheckOutcome(
            "skip", "The address of Letta's database is not known here (field 'Database address' of the service)."
        )
    fix = Fix("config.edit", f"service:{service.name}", {"field": "credentials.database_url"})
    try:
        address = read_uri(uri)
    except ValueError as error:
        return CheckOutcome("fail", str(error), {"field": "database_url"}, fix=fix)
    evidence: dict[str, Any] = {
        "host": address.host,
        "port": address.port,
        "database": address.name,
        "user": address.user,
        "default_login": address.default_password,
    }
    started = time.monotonic()
    try:
        with psycopg.connect(address.conninfo, connect_timeout=CONNECT_SECONDS, autocommit=True) as connection:
            evidence |= _look(connection)
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        if address.password:
            said = said.replace(address.password, "[hidden]")
        sentence, evidence["cause"] = _why(address, said)
        return CheckOutcome("fail", sentence, {**evidence, "said": said[:300]}, fix=fix)
    evidence["milliseconds"] = round((time.monotonic() - started) * 1000)
    return _judge(address, evidence, fix)


def _look(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Role, version, connections, extension and tables: a handful of SELECTs."""

    def one(statement: str) -> Any:
        row = connection.execute(statement).fetchone()
        return row[0] if row else None

    found = {
        "version": str(one("show server_version")),
        "role": str(one("select current_user")),
        "superuser": bool(one("select rolsuper from pg_roles where rolname = current_user")),
        "connections": int(one("select count(*) from pg_stat_activity")),
        "connections_allowed": int(one("show max_connections")),
        "vector": bool(one("select 1 from pg_extension where extname = 'vector'")),
        "tables": one("select to_regclass('agents')") is not None,
        "migration": "",
    }
    if one("select to_regclass('alembic_version')") is not None:
        found["migration"] = str(one("select version_num from alembic_version limit 1") or "")
    return found


def _why(address: DatabaseAddress, said: str) -> tuple[str, str]:
    place = f"{address.host}:{address.port}" if not address.host.startswith("/") else address.host
    if "authentication failed" in said or "no password supplied" in said:
        return (
            f"Letta's database at {place} refuses the login of {address.user}. Letta cannot work with it either.",
            "login",
        )
    if re.search(r'role ".*" does not exist', said):
        return f"Letta's database at {place} has no user {address.user}.", "role"
    if re.search(r'database ".*" does not exist', said):
        return f"There is no database {address.name} at {place}.", "database"
    if "too many clients" in said or "remaining connection slots" in said:
        return f"Letta's database at {place} has no free connection left.", "connections"
    if "translate host name" in said or "Name or service not known" in said:
        return f"The name {address.host} of Letta's database cannot be looked up.", "name"
    if "timeout" in said:
        return f"Letta's database at {place} did not answer within {CONNECT_SECONDS} s.", "timeout"
    return f"Letta's database at {place} cannot be reached. Is it running, and is the address right?", "unreachable"


def _judge(address: DatabaseAddress, evidence: dict[str, Any], fix: Fix) -> CheckOutcome:
    free = evidence["connections_allowed"] - evidence["connections"]
    if not evidence["vector"]:
        return CheckOutcome(
            "fail",
            f"The database {address.name} lacks the extension 'vector', without which Letta does not start. As a superuser run: "
            "CREATE EXTENSION vector;",
            evidence,
        )
    if not evidence["tables"]:
        return CheckOutcome(
            "warn",
            f"The database {address.name} holds no tables of Letta: its migrations have not run there.",
            evidence,
        )
    if free < FEW_CONNECTIONS:
        return CheckOutcome(
            "warn",
            f"Only {free} of {evidence['connections_allowed']} connections of Letta's database {verb(free, 'is', 'are')} free.",
            evidence,
        )
    if address.default_password:
        return CheckOutcome(
            "warn",
            f"Letta's database at {address.host} answers to the login that everybody knows (letta/letta). Give it a password.",
            evidence,
            fix=fix,
        )
    return CheckOutcome(
        "pass",
        f"PostgreSQL {evidence['version']} answers in {evidence['milliseconds']} ms; {counted(free, 'connection is', 'connections are')} free.",
        evidence,
    )


@register_guide("letta.db_unreachable")
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """How to look at the database by hand, and how to give its user another password."""
    host, port = evidence.get("host", "127.0.0.1"), evidence.get("port", 5432)
    user, name = evidence.get("user") or "letta", evidence.get("database") or "letta"
    steps = [
        GuideStep(
            "Ask the database as Letta would; it asks for the password.", f"psql -h {host} -p {port} -U {user} {name}"
        )
    ]
    if evidence.get("default_login"):
        steps += [
            GuideStep(
                "Make a password and set it in the database.",
                f"ALTER ROLE \"{user}\" PASSWORD 'a-new-password';",
                "sql",
            ),
            GuideStep(
                "Give the new address to Letta, and restart it.",
                f"LETTA_PG_URI=postgresql://{user}:a-new-password@{host}:{port}/{name}",
                "ini",
                "Letta's environment",
            ),
        ]
    steps.append(
        GuideStep(f"Enter the address in the service {target or 'letta'}, field 'Database address', and check again.")
    )
    return Guide(
        "Letta's database",
        "Letta keeps its agents and messages in PostgreSQL; without it nothing is answered.",
        tuple(steps),
    )
