"""``frontend.cors``: browsers at an address that we do not know as ours are turned away; an operator may allow it, live."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx
from django.conf import settings
from django.db.models import Max, Min, Sum
from django.utils import timezone

from ops.doctor.faults import FaultRefused, register_fault
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.doctor_config.checks_places import inside_leg
from ops.live import live, live_clear, live_row, live_set
from ops.models import Sighting
from ops.origins import COUNTED_FOR, KEY, REFUSED, SERVICE, UNREADABLE, allowed_origins, is_allowed, origin_of
from ops.registry import CheckOutcome, Fix, register_check
from ops.words import counted

_SHOWN = 20


def refused() -> list[dict[str, Any]]:
    """Origins that were refused within a day and that are not allowed now: ``{origin, times, first, last, place, ours}``; one query.

    ``ours``: the host is one that we go by, so somebody of ours stands before a closed door.
    """
    rows = (
        Sighting.objects.filter(
            service=SERVICE, kind=REFUSED, settled_at=None, last_at__gt=timezone.now() - COUNTED_FOR
        )
        .order_by()
        .values("label")
        .annotate(times=Sum("count"), first=Min("first_at"), last=Max("last_at"), place=Max("sample"))
        .order_by("-times")[:200]
    )
    found = [
        {
            "origin": row["label"],
            "times": row["times"],
            "first": row["first"].isoformat(),
            "last": row["last"].isoformat(),
            "place": row["place"],
            "ours": _is_ours(row["label"]),
        }
        for row in rows
        if row["label"] != UNREADABLE and not is_allowed(row["label"])
    ]
    return sorted(found, key=lambda one: (not one["ours"], -one["times"]))


def _is_ours(origin: str) -> bool:
    host = urlsplit(origin).hostname or ""
    public = urlsplit(settings.PUBLIC_URL).hostname
    return host == public or any(
        host == known or (known.startswith(".") and host.endswith(known)) for known in settings.ALLOWED_HOSTS
    )


@register_check(
    "frontend.cors",
    title="Browsers at our addresses are let in",
    tags=("portal", "web"),
    interval=60,
    severity="error",
    depends_on=("db.reachable",),
    repairs=("config.edit",),
)
def cors() -> CheckOutcome:
    """Refused origins, counted by the web server: red for a host that we go by, amber for a strange one."""
    found = refused()
    evidence: dict[str, Any] = {
        "refused": found[:_SHOWN],
        "allowed": allowed_origins(),
        "public_url": settings.PUBLIC_URL,
    }
    if not found:
        return CheckOutcome("pass", "No browser was turned away for its address within a day.", evidence)
    first = found[0]
    times = counted(first["times"], "time")
    fix = Fix("config.edit", f"setting:{KEY}", {"value": ",".join([*live(KEY), first["origin"]])})
    if first["ours"]:
        sentence = (
            f"Origin {first['origin']} was refused {times}: whoever opens Switchboard there cannot sign in, send or connect. "
            f"Allow it, or correct PUBLIC_URL ({settings.PUBLIC_URL})."
        )
        return CheckOutcome("fail", sentence, evidence, fix=fix)
    sentence = (
        f"Origin {first['origin']} was refused {times}. If that is a page of yours, allow it; if not, somebody else's page tried to "
        "use this server, and was kept out."
    )
    return CheckOutcome("warn", sentence, evidence, fix=fix)


@register_guide("frontend.cors")
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """Where addresses are said: PUBLIC_URL, what the proxy passes on, and further origins."""
    rows = evidence.get("refused") or [{}]
    origin = str(rows[0].get("origin") or "https://chat.example.org")
    host = urlsplit(origin).netloc
    return Guide(
        "Let browsers in at the address that people use",
        f"A browser says where its page comes from. Switchboard knows {', '.join(evidence.get('allowed') or allowed_origins())}.",
        (
            GuideStep("If people use that address, name it as ours.", f"PUBLIC_URL={origin}", "ini", "the settings file; restart after it"),
            GuideStep(
                "Behind a proxy, pass on which host and scheme people asked for, and trust it.",
                f"proxy_set_header Host {host};\nproxy_set_header X-Forwarded-Proto $scheme;\n# settings: TRUST_PROXY=true",
                "nginx",
                "the location block in nginx",
            ),
            GuideStep(
                "A further address can be allowed at once, without a restart.",
                f"python manage.py repair config.edit --target setting:{KEY} --param value={origin}",
            ),
            GuideStep("See whether a browser there would be answered.", f"curl -si -X OPTIONS -H 'Origin: {origin}' -H 'Access-Control-Request-Method: POST' {settings.PUBLIC_URL}/api/auth/login | head -20"),
        ),
    )  # fmt: skip


def _knock() -> dict[str, Any]:
    """A browser at an address that nobody allowed tries to send a form, for real."""
    leg = inside_leg()
    if leg is None:
        raise FaultRefused("The web server does not answer where it listens.")
    parts = urlsplit(leg.url)
    origin = origin_of(f"http://practice.localhost:{parts.port or 80}")
    if is_allowed(origin):
        raise FaultRefused(f"{origin} is allowed here.")
    row = live_row(KEY)
    with httpx.Client(trust_env=False, timeout=5.0) as browser:
        for _ in range(3):
            answer = browser.post(
                f"{parts.scheme}://{parts.netloc}/account/login/",
                data={"login": "practice"},
                headers={"Origin": origin, "Host": urlsplit(settings.PUBLIC_URL).netloc},
            )
    if answer.status_code != 403:
        raise FaultRefused(f"The sign-in page took a form from {origin} ({answer.status_code}).")
    return {"origin": origin, "before": row.value if row is not None else None}


def _forget(memory: dict[str, Any]) -> None:
    Sighting.objects.filter(service=SERVICE, kind=REFUSED, label=memory["origin"]).delete()
    if memory["before"] is None:
        live_clear(key=KEY, actor="fault")
    elif memory["before"] != live(KEY):
        live_set(key=KEY, value=memory["before"], actor="fault")


register_fault(
    "frontend.cors",
    title="A browser at an unknown address tries to sign in",
    cause=_knock,
    heal=_forget,
    evidence=("refused", "allowed"),
)
