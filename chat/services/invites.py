"""Invitations: made, extended, taken back, checked and used.

A code is 28 characters of Crockford's base32 (140 random bits) in groups of four: no letter looks like a digit, case and separators do
not matter. Its SHA-256 is stored; the code itself is shown once.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

import qrcode
import qrcode.image.svg
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from agents.models import Agent
from chat.access.daily_code import is_daily_code
from chat.access.registration import daily_code_allowed
from chat.models import AgentGrant, Invite, InviteUse, Person, PersonRole
from ops.services.audit import record

Reason = Literal["ok", "invalid", "not_found", "expired", "used_up", "revoked"]

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 28
_GROUP = 4
# What people read for another character; after this, characters beyond the alphabet are kept, for imported codes.
_ALIKE = str.maketrans({"I": "1", "L": "1", "O": "0"})
_LONGEST = 200
_UNCHANGED: Any = object()


class InviteRefused(Exception):
    """The code opens nothing. ``reason`` is the true one, for operators; whoever tried hears one sentence for all of them."""

    code = "invite.refused"

    def __init__(self, reason: str, invite: Invite | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.invite = invite


def new_code() -> str:
    """A new code, as it is shown: ``7K3M-…`` with 140 random bits."""
    text = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
    return "-".join(text[start : start + _GROUP] for start in range(0, _LENGTH, _GROUP))


def normalised(code: str) -> str:
    """A code as it is compared: capitals and digits only, look-alikes made one. "" for what cannot be a code."""
    if len(code) > _LONGEST:
        return ""
    text = "".join(letter for letter in code.upper() if letter.isascii() and letter.isalnum())
    return text.translate(_ALIKE)


def digest_of(code: str) -> str:
    """What is stored of a code, and found by it. Import uses it too."""
    return hashlib.sha256(normalised(code).encode()).hexdigest()


def link_of(code: str) -> str:
    """The address that opens the page with the code filled in. The code is in the fragment, which browsers send to no server."""
    return f"{settings.PUBLIC_URL}/join#{code}"


def qr_svg(text: str) -> str:
    """A QR code as an SVG document, dark on a white ground so that it can be read in dark pages too."""
    code = qrcode.QRCode(border=4, error_correction=qrcode.constants.ERROR_CORRECT_M)
    code.add_data(text)
    drawn: str = code.make_image(image_factory=qrcode.image.svg.SvgPathFillImage).to_string(encoding="unicode")
    return drawn


def invite_create(
    *,
    role: str = PersonRole.PERSON,
    max_uses: int | None = 1,
    expires_at: datetime | None = None,
    all_agents: bool = True,
    agents: Iterable[Agent] = (),
    note: str = "",
    created_by: Person | None = None,
    actor: str,
) -> tuple[Invite, str]:
    """Make an invitation. Returns it and its code, which nobody can see again. Raises ``ValidationError`` with a sentence by field."""
    chosen = list(agents)
    if role not in PersonRole.values:
        raise ValidationError({"role": f"The role is one of {', '.join(PersonRole.values)}."})
    _check_limits(max_uses, expires_at)
    if not all_agents and not chosen and role != PersonRole.OPERATOR:
        raise ValidationError({"agents": "Choose the agents, or allow all of them."})
    code = new_code()
    with transaction.atomic():
        invite = Invite.objects.create(
            digest=digest_of(code),
            hint=code[: _GROUP * 2 + 1],
            role=role,
            max_uses=max_uses,
            expires_at=expires_at,
            all_agents=all_agents,
            note=note.strip()[:255],
            created_by=created_by,
        )
        if not all_agents:
            invite.agents.set(chosen)
        record(
            actor=actor,
            action="invite.created",
            target=invite,
            after={
                "role": str(role),
                "max_uses": max_uses,
                "expires_at": expires_at,
                "all_agents": all_agents,
                "agents": [agent.pk for agent in chosen][:100],
                "note": note.strip()[:255],
            },
        )
    return invite, code


def invite_extend(
    *, invite: Invite, expires_at: datetime | None = _UNCHANGED, max_uses: int | None = _UNCHANGED, actor: str
) -> Invite:
    """Give an invitation another end or another number of uses (``None``: no limit). Raises ``ValidationError``."""
    new_end = invite.expires_at if expires_at is _UNCHANGED else expires_at
    new_uses = invite.max_uses if max_uses is _UNCHANGED else max_uses
    _check_limits(new_uses, None if expires_at is _UNCHANGED else new_end)
    with transaction.atomic():
        row = Invite.objects.select_for_update().get(pk=invite.pk)
        before = {"expires_at": row.expires_at, "max_uses": row.max_uses}
        row.expires_at, row.max_uses = new_end, new_uses
        row.save(update_fields=["expires_at", "max_uses"])
        record(
            actor=actor,
            action="invite.extended",
            target=row,
            before=before,
            after={"expires_at": new_end, "max_uses": new_uses},
        )
    invite.expires_at, invite.max_uses = new_end, new_uses
    return invite


def invite_revoke(*, invite: Invite, actor: str) -> Invite:
    """Nobody can join by it any more; whoever did stays. Can be taken back."""
    with transaction.atomic():
        now = timezone.now()
        if Invite.objects.filter(pk=invite.pk, revoked_at=None).update(revoked_at=now, revoked_by=actor[:255]):
            record(actor=actor, action="invite.revoked", target=invite)
    invite.refresh_from_db(fields=["revoked_at", "revoked_by"])
    return invite


def invite_unrevoke(*, invite: Invite, actor: str) -> Invite:
    """Make a revoked invitation count again."""
    with transaction.atomic():
        if Invite.objects.filter(pk=invite.pk).exclude(revoked_at=None).update(revoked_at=None, revoked_by=""):
            record(actor=actor, action="invite.unrevoked", target=invite)
    invite.refresh_from_db(fields=["revoked_at", "revoked_by"])
    return invite


def invite_check(code: str) -> tuple[Invite | None, Reason]:
    """Whether a code would open the door now, and the true reason. ("ok" without an invitation: Portagent's daily code.)"""
    if not normalised(code):
        return None, "invalid"
    invite = Invite.objects.filter(digest=digest_of(code)).first()
    if invite is None:
        return None, "ok" if daily_code_allowed() and is_daily_code(code) else "not_found"
    return invite, _REASONS[invite.state()]


def invite_redeem(*, code: str, person: Person) -> Invite | None:
    """Use a code up once for a person who has just joined; gives them its role and agents. Part of the caller's transaction.

    ``None``: it was Portagent's daily code. Raises ``InviteRefused``. However many try at once, ``uses`` never exceeds ``max_uses``:
    counting and checking are one statement.
    """
    now = timezone.now()
    with transaction.atomic():
        digest = digest_of(code) if normalised(code) else ""
        counted = (
            Invite.objects.filter(digest=digest, revoked_at=None)
            .filter(Q(expires_at=None) | Q(expires_at__gt=now))
            .filter(Q(max_uses=None) | Q(uses__lt=F("max_uses")))
            .update(uses=F("uses") + 1)
        )
        if not counted:
            found, reason = invite_check(code)
            if found is None and reason == "ok":
                return None
            # "ok" with an invitation: somebody took it back or extended it between the two statements. Trying again tells.
            raise InviteRefused("used_up" if reason == "ok" else reason, found)
        invite = Invite.objects.get(digest=digest)
        InviteUse.objects.create(invite=invite, person=person, name=person.get_username())
        if invite.role == PersonRole.OPERATOR:
            person.is_staff = person.is_superuser = True
        person.all_agents = invite.all_agents
        person.save(update_fields=["is_staff", "is_superuser", "all_agents"])
        if not invite.all_agents:
            AgentGrant.objects.bulk_create(
                [AgentGrant(person=person, agent=agent) for agent in invite.agents.all()], ignore_conflicts=True
            )
    return invite


_REASONS: dict[str, Reason] = {"open": "ok", "revoked": "revoked", "expired": "expired", "used_up": "used_up"}


def _check_limits(max_uses: int | None, expires_at: datetime | None) -> None:
    if max_uses is not None and not 1 <= max_uses <= 1_000_000:
        raise ValidationError({"max_uses": "Give a number from 1 to 1,000,000, or none for any number."})
    if expires_at is not None and expires_at <= timezone.now():
        raise ValidationError({"expires_at": "The invitation would have expired already."})
