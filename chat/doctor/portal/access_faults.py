"""Ways to be shut out for real: a person, made for practising, who goes to the door of this installation with a browser."""

from __future__ import annotations

import re
import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
from django.conf import settings
from django.utils import timezone

from chat.access.registration import DAILY_KEY
from chat.doctor.portal import invites, passwords, sessions
from chat.models import AccessAttempt, Invite, Person, ProgramLogin, SigningKey
from chat.services.invites import invite_create
from chat.services.people import person_deactivate
from chat.services.program_logins import login_open
from chat.services.signing_keys import signing_key
from ops.doctor.faults import FaultRefused, register_fault
from ops.doctor_config.checks_places import inside_leg
from ops.live import live_clear, live_row, live_set

ACTOR = "fault"
NAME = "practice-person"


class Browser:
    """A browser at the door: keeps cookies, sends the CSRF token with its forms."""

    def __init__(self) -> None:
        leg = inside_leg()
        if leg is None:
            raise FaultRefused("The web server does not answer where it listens.")
        parts = urlsplit(leg.url)
        self._base = f"{parts.scheme}://{parts.netloc}"
        public = urlsplit(settings.PUBLIC_URL)
        headers = {
            "Host": public.netloc,
            "Origin": f"{public.scheme}://{public.netloc}",
            "X-Forwarded-Proto": public.scheme,
        }
        self.client = httpx.Client(headers=headers, timeout=10.0, trust_env=False)

    def send(self, path: str, **fields: str) -> httpx.Response:
        """Open a page, fill in its form, send it."""
        page = self.client.get(self._base + path)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        if page.status_code != 200 or token is None:
            raise FaultRefused(f"{path} has no form here ({page.status_code}).")
        # Cookies of a secure site are not sent back over the way inside; a proxy would have carried them.
        cookies = "; ".join(f"{name}={value}" for name, value in {**self.client.cookies, **page.cookies}.items())
        fields["csrfmiddlewaretoken"] = token[1]
        return self.client.post(self._base + path, data=fields, headers={"Cookie": cookies})


def _person() -> tuple[Person, str]:
    password = secrets.token_urlsafe(18)
    Person.objects.filter(username__startswith=NAME).delete()
    name = f"{NAME}-{secrets.token_hex(3)}"
    return Person.objects.create_user(name, password=password, display_name="Practice"), password


def _forget(memory: dict[str, Any]) -> None:
    AccessAttempt.objects.filter(person=memory["person"]).delete()
    Person.objects.filter(pk=memory["person"]).delete()


def _wrong_passwords() -> dict[str, Any]:
    person, _ = _person()
    browser = Browser()
    for number in range(passwords.FAILURES):
        browser.send("/account/login/", login=person.get_username(), password=f"wrong {number} {secrets.token_hex(4)}")
    if len(passwords.failing()) == 0:
        raise FaultRefused(
            "The door counts no wrong passwords here; perhaps its limits are full. Try again in ten minutes."
        )
    return {"person": person.pk}


def _closed_account() -> dict[str, Any]:
    person, password = _person()
    person_deactivate(person=person, reason="A fault is being practised.", actor=ACTOR)
    Browser().send("/account/login/", login=person.get_username(), password=password)
    if not AccessAttempt.objects.filter(person=person, outcome="inactive").exists():
        _forget({"person": person.pk})
        raise FaultRefused(
            "The door took the attempt for something else; perhaps its limits are full. Try again in ten minutes."
        )
    return {"person": person.pk}


def _asks_for_a_password() -> dict[str, Any]:
    if settings.MAIL:
        raise FaultRefused("A mail server is set here: whoever asks gets a mail.")
    from chat.services.reset_mail import reset_mail_send

    person, _ = _person()
    Browser().send("/account/password/reset/", login=person.get_username())
    waiting = AccessAttempt.objects.filter(name=person.get_username(), kind="reset").order_by("-id").first()
    if waiting is None:
        _forget({"person": person.pk})
        raise FaultRefused("The door did not take the question; perhaps its limits are full. Try again later.")
    # A worker sees to it within moments; here nobody waits for that.
    reset_mail_send(waiting.pk)
    return {"person": person.pk}


def _expired_invite() -> dict[str, Any]:
    """Somebody goes to the door with an invitation that has just expired."""
    invite, code = invite_create(
        note="A fault is being practised", expires_at=timezone.now() + timedelta(hours=1), actor=ACTOR
    )
    Invite.objects.filter(pk=invite.pk).update(expires_at=timezone.now() - timedelta(hours=3))
    word = secrets.token_urlsafe(12)
    Browser().send(
        "/join",
        code=code,
        username=f"{NAME}-{secrets.token_hex(3)}",
        password=word,
        password1=word,
        password2=word,
        display_name="",
    )
    if not AccessAttempt.objects.filter(invite=invite).exists():
        _forget_invite({"invite": invite.pk})
        raise FaultRefused("The door did not look at the invitation; perhaps its limits are full. Try again later.")
    return {"invite": invite.pk}


def _forget_invite(memory: dict[str, Any]) -> None:
    AccessAttempt.objects.filter(invite=memory["invite"]).delete()
    Invite.objects.filter(pk=memory["invite"]).delete()


def _daily_code() -> dict[str, Any]:
    row = live_row(DAILY_KEY)
    memory = {"before": row.value if row is not None else None}
    live_set(key=DAILY_KEY, value=True, actor=ACTOR)
    return memory


def _no_daily_code(memory: dict[str, Any]) -> None:
    if memory["before"] is None:
        live_clear(key=DAILY_KEY, actor=ACTOR)
    else:
        live_set(key=DAILY_KEY, value=memory["before"], actor=ACTOR)


def _forgotten_program() -> dict[str, Any]:
    person, _ = _person()
    login_open(person=person, user_agent="A program that was given up", actor=ACTOR)
    then = timezone.now() - sessions.unused_after() - timedelta(days=1)
    ProgramLogin.objects.filter(person=person).update(last_used_at=then, created_at=then)
    return {"person": person.pk}


def _weak_key() -> dict[str, Any]:
    """Somebody has put a word of their own where the key was."""
    key = signing_key()
    memory = {"key": key.pk, "secret_sealed": _sealed(key.pk)}
    key.secret = "secret"  # noqa: S105 - that is what is wrong with it
    key.save(update_fields=["secret"])
    return memory


def _sealed(pk: int) -> str:
    """The secret as it lies in the database: encrypted, so that a memory may hold it."""
    from django.db import connection

    table = connection.ops.quote_name(SigningKey._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT secret FROM {table} WHERE id = %s", [pk])  # noqa: S608 - our own table
        return str(cursor.fetchone()[0])


def _strong_key(memory: dict[str, Any]) -> None:
    from django.db import connection

    from chat.access.signing import forget_keys

    table = connection.ops.quote_name(SigningKey._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET secret = %s WHERE id = %s", [memory["secret_sealed"], memory["key"]])  # noqa: S608
    forget_keys()


register_fault(
    "auth.bad_credentials",
    title="Somebody has forgotten their password",
    cause=_wrong_passwords,
    heal=_forget,
    evidence=("people",),
)
register_fault(
    "auth.user_disabled",
    title="Somebody stands before a closed account",
    cause=_closed_account,
    heal=_forget,
    evidence=("people",),
)
register_fault(
    "auth.password_reset",
    title="Somebody asks for a new password, and no mail server is set",
    cause=_asks_for_a_password,
    heal=_forget,
    evidence=("waiting",),
)
register_fault(
    "auth.invite_invalid",
    title="Somebody was given an invitation that has expired",
    cause=_expired_invite,
    heal=_forget_invite,
    evidence=("invites", "refused"),
)
register_fault(
    "auth.invite_timezone",
    title="Portagent's code of the day is allowed",
    cause=_daily_code,
    heal=_no_daily_code,
    repair="invite.issue",
    repair_target=lambda memory: invites.DAILY_TARGET,
    evidence=("daily_code", "skew_seconds"),
)
register_fault(
    "auth.token_expired",
    title="A program was given up and stays signed in",
    cause=_forgotten_program,
    heal=_forget,
    evidence=("unused",),
)
register_fault(
    "auth.jwt_ephemeral",
    title="The signing key is a word that anybody could guess",
    cause=_weak_key,
    heal=_strong_key,
    evidence=("keys", "programs"),
)
