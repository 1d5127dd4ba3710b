"""``auth.jwt_ephemeral``: the key that signs access tokens is kept, readable and strong, and changes only when somebody rotates it.
``jwt.persist_key`` makes one that is."""

from __future__ import annotations

import hashlib
from typing import Any

from django.db.models import Q
from django.utils import timezone

from chat.models import ProgramLogin, SigningKey
from chat.services.signing_keys import signing_key_rotate
from ops.configuration.placeholders import why_placeholder
from ops.doctor.repairs import Change, Plan, RepairWork, register_repair
from ops.models import AuditEvent, CheckState
from ops.registry import CheckOutcome, register_check
from ops.secrets import SecretUnreadable
from ops.words import counted, verb

CHECK = "auth.jwt_ephemeral"
# Bytes of an HS256 key (RFC 7518, 3.2).
SHORTEST = 32
_EVENTS = ("signing_key.created", "signing_key.rotated")


def look() -> list[dict[str, Any]]:
    """The keys that count, newest first: ``{kid, fingerprint, problem}``; the secret itself leaves this function in no form."""
    rows = SigningKey.objects.filter(Q(retired_at=None) | Q(retired_at__gt=timezone.now())).order_by("-id")
    found = []
    for row in rows[:50]:
        problem, fingerprint = "", ""
        try:
            secret = str.__str__(row.secret)
        except SecretUnreadable:
            problem = "cannot be decrypted: FIELD_ENCRYPTION_KEYS lacks the key that it was stored with"
        else:
            fingerprint = hashlib.sha256(f"{row.kid}:{secret}".encode()).hexdigest()[:12]
            if len(secret.encode()) < SHORTEST:
                problem = f"is {len(secret.encode())} bytes long; {SHORTEST} are the least"
            elif why := why_placeholder(secret):
                problem = f"is a placeholder: {why}"
        found.append(
            {
                "id": row.pk,
                "kid": row.kid,
                "fingerprint": fingerprint,
                "problem": problem,
                "signs": row.retired_at is None,
            }
        )
    return found


@register_check(
    CHECK,
    title="Restarting signs no program out",
    tags=("portal", "start", "people"),
    interval=300,
    severity="critical",
    depends_on=("db.reachable",),
    repairs=("jwt.persist_key",),
)
def ephemeral() -> CheckOutcome:
    """The signing keys lie in the database, encrypted. Red for one that is unreadable, short or a placeholder, and for a key whose content
    changed although nobody rotated it: its fingerprint is kept with this check."""
    keys = look()
    logins = ProgramLogin.objects.filter(revoked_at=None, expires_at__gt=timezone.now()).count()
    known = _known()
    evidence: dict[str, Any] = {
        "keys": [{name: one[name] for name in ("kid", "fingerprint", "problem")} for one in keys],
        "fingerprints": {one["kid"]: one["fingerprint"] for one in keys if one["fingerprint"]},
        "programs": logins,
    }
    stay = f"{counted(logins, 'program')} would have to sign in again."
    bad = [one for one in keys if one["problem"]]
    if bad:
        return CheckOutcome("fail", f"The signing key {bad[0]['kid']} {bad[0]['problem']}. {stay}", evidence)
    changed = [one for one in keys if known.get(one["kid"], one["fingerprint"]) != one["fingerprint"]]
    if changed:
        evidence["fingerprints"] = known
        return CheckOutcome(
            "fail",
            f"The signing key {changed[0]['kid']} is another than before, and nobody rotated it. Tokens of before count no longer: {stay}",
            evidence,
        )
    if not keys and logins:
        return CheckOutcome(
            "fail", f"There is no signing key, although programs are signed in: it was lost. {stay}", evidence
        )
    if not keys:
        return CheckOutcome(
            "pass", "No program has signed in yet; the signing key is made with the first, and kept.", evidence
        )
    # Every key has an event that says how it came here, unless the log was pruned since.
    told = set(
        AuditEvent.objects.filter(action__in=_EVENTS, target_type="chat.signingkey").values_list("target_id", flat=True)
    )
    evidence["without_event"] = [one["kid"] for one in keys if str(one["id"]) not in told]
    return CheckOutcome(
        "pass",
        f"{counted(len(keys), 'signing key')} {verb(len(keys), 'is', 'are')} kept in the database, encrypted.",
        evidence,
    )


def _known() -> dict[str, str]:
    state = CheckState.objects.filter(check_id=CHECK).first()
    found = (state.evidence or {}).get("fingerprints") if state is not None else None
    return dict(found) if isinstance(found, dict) else {}


def plan(work: RepairWork) -> Plan:
    """A new key where one is not usable; sound ones go on counting for the tokens that they signed."""
    keys = look()
    known = _known()
    bad = [one for one in keys if one["problem"] or known.get(one["kid"], one["fingerprint"]) != one["fingerprint"]]
    lost = not keys and ProgramLogin.objects.filter(revoked_at=None, expires_at__gt=timezone.now()).exists()
    if not bad and not lost:
        return Plan("The signing keys are kept, readable and strong.")
    changes = [Change(f"signing_key:{one['kid']}", "counts", True, False) for one in bad]
    changes.append(Change("signing_key", "a new one of 48 random bytes, encrypted", None, "signs"))
    return Plan(
        "A new key is made, stored encrypted, and signs from now on. Programs fetch new tokens by themselves; nobody has to type a password.",
        tuple(changes),
        {"end": [one["id"] for one in bad]},
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """The key ring turns: the new one signs, unusable ones end at once, sound ones count until their tokens expire."""
    fresh = signing_key_rotate(actor=work.actor)
    ended = SigningKey.objects.filter(pk__in=work.plan.data["end"]).update(retired_at=timezone.now())
    _forget_fingerprints(work.plan.data["end"])
    return {"kid": fresh.kid, "ended": ended}


def _forget_fingerprints(ids: list[int]) -> None:
    """What was known of keys that ended is known no longer."""
    from chat.access.signing import forget_keys

    forget_keys()
    gone = set(SigningKey.objects.filter(pk__in=ids).values_list("kid", flat=True))
    state = CheckState.objects.filter(check_id=CHECK).first()
    if state is not None and gone:
        evidence = dict(state.evidence or {})
        evidence["fingerprints"] = {kid: value for kid, value in _known().items() if kid not in gone}
        CheckState.objects.filter(pk=state.pk).update(evidence=evidence)


register_repair(
    "jwt.persist_key",
    title="Make a signing key that stays",
    repair_class="C",
    button="Make it",
    explain="Makes a strong key once and stores it encrypted in the database; it signs from now on. Sound older keys count until their tokens have "
    "expired, so nobody is signed out; what is short, lost or unreadable ends.",
    plan=plan,
    apply=apply,
)
