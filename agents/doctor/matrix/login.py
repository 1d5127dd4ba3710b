"""Whether the homeserver knows us: the appservice's token, asked by ``whoami``.

An appservice has no password and never logs in, so nothing can drift but the registration: the homeserver has another token than we
have, has not loaded the registration, or has it under another account. The repair looks for the token that it accepts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.conf import settings

from agents.doctor.matrix import own_session
from agents.doctor.matrix.common import GONE, homeservers, sender_of, server_name_of, service_at, service_named
from agents.matrix.client import AppserviceClient
from agents.matrix.clients import forget_client
from agents.matrix.errors import MatrixError, RateLimited
from agents.matrix.registration import Registration, RegistrationError, load
from agents.services.backends import mode_of
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.models import ManagedBy, Service
from ops.registry import CheckOutcome, ServiceField, TestResult, register_check
from ops.services.services import service_note, service_save

_WORDS = {
    "M_UNKNOWN_TOKEN": "it does not know our token: the registration that it has loaded holds another one, or it has loaded none",
    "M_MISSING_TOKEN": "our token did not arrive: is a proxy taking the Authorization header out?",
    "M_FORBIDDEN": "it knows the token, but not for Switchboard's own account",
    "M_USER_DEACTIVATED": "Switchboard's own account is deactivated there; an administrator has to activate it again",
    "M_LIMIT_EXCEEDED": "it asks us to be slower: set rate_limited: false in the registration",
}


@register_check(
    "matrix.login_failed",
    title="The homeserver accepts our token",
    tags=("matrix", "config"),
    interval=30,
    severity="critical",
    timeout=15,
    scope="service",
    targets=homeservers,
    depends_on=("db.reachable", "matrix.hs_process_down", "matrix.hs_url_wrong", "matrix.hs_unreachable"),
    repairs=("matrix.renew_token",),
)
def login_failed(target: str) -> CheckOutcome:
    """Red when ``whoami`` with the appservice's token fails, or says another account than Switchboard's own.

    There are no passwords and no logins here: accounts speak through the one token. Amber while the homeserver only asks us to wait.
    In client mode it is the session of Switchboard's own account that is asked about.
    """
    service = service_named(target)
    if service is None:
        return GONE
    if mode_of(service) == "client":
        return own_session.look(service)
    said = _whoami(service, _token(service))
    expected = sender_of(service)
    evidence = {
        "user_id": said.user_id,
        "expected": expected or None,
        "errcode": said.errcode,
        "status": said.status,
        "appservice_id": service.options.get("appservice_id") or settings.MATRIX_APPSERVICE_ID,
    }
    if said.limited:
        return CheckOutcome("warn", f"The homeserver does not answer whoami for now: {said.sentence}", evidence)
    if said.errcode:
        words = _WORDS.get(said.errcode, said.sentence)
        sentence = (
            f"The homeserver refuses us ({said.errcode}): {words}. No agent can speak. Renew the token here, or install "
            "the registration on the homeserver and restart it."
        )
    elif expected and said.user_id != expected:
        sentence = (
            f"The token belongs to {said.user_id}, not to {expected}: the homeserver has another registration than we think. "
            "Compare sender_localpart, and renew the token."
        )
    else:
        return CheckOutcome("pass", f"It takes us for {said.user_id}.", evidence)
    service_note(service=service, result=TestResult("down", sentence))
    return CheckOutcome("fail", sentence, evidence)


@dataclass(frozen=True, slots=True)
class _Said:
    user_id: str = ""
    errcode: str = ""
    status: int = 0
    sentence: str = ""
    limited: bool = False


def _whoami(service: Service, token: str) -> _Said:
    """Asked on a connection of its own: the shared client belongs to the token that is in use."""
    localpart = service.options.get("sender_localpart") or settings.MATRIX_SENDER_LOCALPART
    client = AppserviceClient(service.base_url, token, server_name_of(service), sender_localpart=localpart, timeout=8)
    try:
        return _Said(user_id=client.whoami())
    except RateLimited as error:
        return _Said(errcode=error.code, status=error.status, sentence=error.sentence, limited=True)
    except MatrixError as error:
        return _Said(errcode=error.code, status=error.status, sentence=error.message)
    finally:
        client.close()


def _token(service: Service) -> str:
    return str((service.credentials or {}).get("as_token") or settings.MATRIX_AS_TOKEN)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Tokens that may be the right ones, and where they are from. ``hs_token`` "" leaves ours."""

    source: str
    as_token: str
    hs_token: str = ""


def _pairs(service: Service, params: dict[str, Any], file: Path | None) -> list[_Pair]:
    stored = service.credentials or {}
    found = []
    if params.get("as_token"):
        found.append(_Pair("what was pasted", str(params["as_token"]), str(params.get("hs_token") or "")))
    if file is not None and file.is_file():
        try:
            written = load(file)
            found.append(_Pair(f"the registration {file}", written.as_token, written.hs_token))
        except RegistrationError as error:
            raise RepairRefused(str(error)) from error
    found.append(_Pair("the environment", settings.MATRIX_AS_TOKEN, settings.MATRIX_HS_TOKEN))
    if stored.get("former_as_token"):
        found.append(
            _Pair("the one used before", str(stored["former_as_token"]), str(stored.get("former_hs_token") or ""))
        )
    ours = _token(service)
    return [pair for pair in found if pair.as_token and pair.as_token != ours]


def _file(service: Service, params: dict[str, Any]) -> Path | None:
    """The registration as the homeserver reads it, when it lies on this machine."""
    given = str(params.get("registration_file") or service.options.get("registration_file") or "").strip()
    if given:
        return Path(given)
    local = Path(settings.DATA_DIR) / "homeserver" / "registration.yaml"
    return local if service.options.get("local") and local.is_file() else None


def _plan(work: RepairWork) -> Plan:
    service = service_at(work.target)
    if mode_of(service) == "client":
        return own_session.plan(service, work.params)
    if token_is_accepted(service):
        return Plan("The homeserver accepts the token that is in use.")
    file = _file(service, work.params)
    target = f"service:{service.pk}"
    for pair in _pairs(service, work.params, file):
        if not _accepts(service, pair.as_token):
            continue
        changes = [Change(target, "appservice token", "refused", f"accepted, from {pair.source}")]
        if pair.hs_token and pair.hs_token != (service.credentials or {}).get("hs_token"):
            changes.append(Change(target, "homeserver token", "ours", f"from {pair.source}"))
        managed = service.managed_by
        if managed == ManagedBy.ENVIRONMENT and pair.as_token != settings.MATRIX_AS_TOKEN:
            # At the next start the environment's word would win again, and it is the wrong one.
            managed = ManagedBy.OPERATOR
            changes.append(Change(target, "managed by", "the environment", "an operator"))
        data = {"as_token": pair.as_token, "hs_token": pair.hs_token, "managed_by": str(managed), "source": pair.source}
        return Plan(
            f"Use the token from {pair.source}: the homeserver accepts it.", tuple(changes), data, _kept(service)
        )
    if file is not None and _written(file) != (text := _rendered(service, file)):
        before = "another registration" if file.exists() else None
        return Plan(
            f"Write our registration to {file}. The homeserver has to be restarted afterwards; until then it refuses us.",
            (Change(target, f"file {file}", before, "our registration"),),
            {"file": str(file), "text": text},
            {**_kept(service), "file": str(file), "file_before": _written(file)},
        )
    raise RepairRefused(
        "No token that is known here is accepted by the homeserver: not the stored one, the environment's, the former one, nor one "
        "from a registration file. Install our registration on the homeserver and restart it (the guide shows how), or paste the "
        "tokens that its registration holds."
    )


def _apply(work: RepairWork) -> dict[str, Any]:
    service = service_at(work.target)
    data = work.plan.data
    if data.get("client"):
        return own_session.apply(service, work)
    if "file" in data:
        _write(Path(data["file"]), data["text"])
        return {"written": data["file"], "next": "Restart the homeserver: it reads registrations only when it starts."}
    stored = dict(service.credentials or {})
    former = {"former_as_token": _token(service), "former_hs_token": stored.get("hs_token") or settings.MATRIX_HS_TOKEN}
    fresh = {**stored, **former, "as_token": data["as_token"]}
    if data["hs_token"]:
        fresh["hs_token"] = data["hs_token"]
    _save(service, fresh, data["managed_by"], work.actor)
    if not _accepts(service_at(work.target), data["as_token"]):
        raise RepairFailed("The homeserver refused the token that it had accepted a moment ago.")
    return {"source": data["source"]}


def _undo(work: RepairWork) -> None:
    service, kept = service_at(work.target), work.snapshot
    if "credentials" not in kept:
        # A session was opened; the one before is gone on the homeserver.
        return
    if kept.get("file"):
        if kept.get("file_before"):
            _write(Path(kept["file"]), kept["file_before"])
        else:
            Path(kept["file"]).unlink(missing_ok=True)
        return
    _save(service, kept["credentials"], kept["managed_by"], work.actor)


def _kept(service: Service) -> dict[str, Any]:
    return {"credentials": dict(service.credentials or {}), "managed_by": str(service.managed_by)}


def _save(service: Service, credentials: dict[str, Any], managed_by: str, actor: str) -> None:
    service_save(
        actor=actor,
        name=service.name,
        kind=service.kind,
        base_url=service.base_url,
        credentials=credentials,
        enabled=service.enabled,
        managed_by=managed_by,
    )
    forget_client(service.base_url, server_name_of(service))


def _accepts(service: Service, token: str) -> bool:
    said = _whoami(service, token)
    expected = sender_of(service)
    if said.limited or (not said.user_id and said.status == 0):
        raise RepairRefused(f"The homeserver cannot be asked now: {said.sentence}")
    return bool(said.user_id) and (not expected or said.user_id == expected)


def token_is_accepted(service: Service) -> bool:
    """Whether the homeserver takes the stored token for Switchboard's own account."""
    return _accepts(service, _token(service))


def registration_of(service: Service) -> Registration:
    """Our registration for this homeserver, as ``manage.py registration`` prints it. Holds both tokens."""
    stored = service.credentials or {}
    return Registration(
        id=service.options.get("appservice_id") or settings.MATRIX_APPSERVICE_ID,
        url=settings.MATRIX_APPSERVICE_URL,
        as_token=_token(service),
        hs_token=str(stored.get("hs_token") or settings.MATRIX_HS_TOKEN),
        sender_localpart=service.options.get("sender_localpart") or settings.MATRIX_SENDER_LOCALPART,
        server_name=server_name_of(service),
        user_prefix=service.options.get("user_prefix") or settings.MATRIX_USER_PREFIX,
    )


def _rendered(service: Service, file: Path) -> str:
    """Our registration as a file; where the homeserver reaches us stays as the present file says."""
    ours = registration_of(service)
    try:
        present = load(file).url
    except RegistrationError:
        present = ""
    return replace(ours, url=present or ours.url).to_yaml()


def _written(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _write(file: Path, text: str) -> None:
    try:
        # It holds both tokens; an existing file keeps its mode, so that the homeserver's user can still read it.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
    except OSError as error:
        raise RepairFailed(f"{file} cannot be written: {error.strerror}.") from error


register_repair(
    "matrix.renew_token",
    title="Renew the token to the homeserver",
    repair_class="C",
    button="Renew the token",
    explain=(
        "Tries the tokens that are known (pasted, registration file, environment, the former one) and takes the one that the "
        "homeserver accepts. When it accepts none, our registration is written again to its file, if that lies on this machine. In "
        "client mode a session of Switchboard's own account is opened instead."
    ),
    plan=_plan,
    apply=_apply,
    undo=_undo,
    fields=(
        ServiceField("as_token", "Appservice token", "as_token of the registration on the homeserver.", secret=True),
        ServiceField("hs_token", "Homeserver token", "hs_token of the same registration.", secret=True),
        ServiceField("password", "Password", "Client mode: of Switchboard's own account.", secret=True),
        ServiceField("access_token", "Access token", "Client mode: of Switchboard's own account.", secret=True),
        ServiceField(
            "registration_file", "Registration file", "Where the homeserver reads it, if that is on this machine."
        ),
    ),
    target_kinds=("service",),
)
