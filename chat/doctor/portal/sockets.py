"""Sockets: refused ones (``ws.token_missing``), proxies that do not upgrade (``ws.proxy_upgrade``), and drops after the same time
(``ws.flapping``)."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone

from chat.doctor.portal.handshake import Shaken, server_of, shake
from chat.models import SocketClose
from chat.socket.protocol import HEARTBEAT, Close
from chat.socket.statistics import snapshot
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.doctor_config.checks_places import inside_leg
from ops.live import live, live_clear, live_row, live_set
from ops.models import RepairRun, RepairRunState
from ops.network.places import public_url
from ops.registry import CheckOutcome, Fix, ServiceField, register_check
from ops.words import counted

BROWSER_CHECK, SET_HEARTBEAT = "ws.browser_check", "ws.set_heartbeat"
REASONS = {
    int(Close.NOT_SIGNED_IN): "no ticket or token, or one that does not count",
    int(Close.NOT_ALLOWED): "the page's address is not allowed",
    int(Close.SILENT): "no heartbeat, or nothing was said after opening",
}
# Fewer refusals than these are people whose session ended.
REFUSALS = 6
HOURS = 2
# Lifetimes of so many drops, the same to a second, are no chance.
DROPS, SHARE = 8, 0.5
FLAPPING_HOURS = 6
# Neither ours nor the client's word: the connection was cut, or nobody answered any more.
CUT = (1006, 1005, int(Close.SILENT))
LOWEST = 5


# Refused sockets


@register_check(
    "ws.token_missing",
    title="Sockets are let in",
    tags=("portal", "sockets"),
    interval=60,
    severity="error",
    timeout=20,
    depends_on=("db.reachable",),
    repairs=(BROWSER_CHECK,),
)
def token_missing() -> CheckOutcome:
    """Sockets that were refused within two hours, by reason, less what a browser check has looked into since. Red for six or more that are
    at least a third of all."""
    closes = _since_looked_into(dict(snapshot(HOURS).closes))
    refused = {code: closes.get(code, 0) for code in REASONS if closes.get(code, 0)}
    total = sum(closes.values())
    evidence: dict[str, Any] = {"closes": {str(code): count for code, count in closes.items()}, "hours": HOURS}
    count = sum(refused.values())
    if count < REFUSALS or count * 3 < total:
        return CheckOutcome(
            "pass", f"{counted(total, 'socket')} ended within {HOURS} hours, {count} of them refused.", evidence
        )
    code = max(refused, key=lambda one: refused[one])
    return CheckOutcome(
        "fail",
        f"{count} of {total} sockets were refused within {HOURS} hours, most with {code}: {REASONS[code]}. The page then shows no answers. "
        "The check from the browser tells whether a socket can be opened at all.",
        {**evidence, "refused": {str(one): number for one, number in refused.items()}, "reason": REASONS[code]},
    )


def _since_looked_into(closes: dict[int, int]) -> dict[int, int]:
    """What came after the last browser check that found sockets working, if that was within the time looked at."""
    run = (
        RepairRun.objects.filter(
            repair_id=BROWSER_CHECK,
            state__in=[RepairRunState.RUNNING, RepairRunState.SUCCEEDED, RepairRunState.UNPROVEN],
            started_at__gt=timezone.now() - timedelta(hours=HOURS),
        )
        .order_by("-started_at")
        .first()
    )
    known = (run.snapshot or {}).get("closes", {}) if run is not None else {}
    return {code: max(0, count - int(known.get(str(code), 0))) for code, count in closes.items()}


def plan_check(work: RepairWork) -> Plan:
    """Where a socket is opened, and what was refused so far."""
    closes = _since_looked_into(dict(snapshot(HOURS).closes))
    refused = sum(closes.get(code, 0) for code in REASONS)
    if not refused and not work.params.get("anyway"):
        return Plan("No socket was refused since they were last looked into.")
    return Plan(
        f"Opens a socket where the web server listens and at {public_url()}, sends a frame, waits for one, measures; nothing is signed in for "
        "it. If both work, the refusals of before count no longer.",
        (Change("socket", "refused sockets", refused, "looked into"),),
    )


def apply_check(work: RepairWork) -> dict[str, Any]:
    """Both legs. Fails with the one that does not work."""
    inside, outside = legs()
    found = {"inside": inside.to_dict() if inside else None, "outside": outside.to_dict()}
    bad = next((one for one in (inside, outside) if one is not None and not one.ok), None)
    if bad is not None:
        raise RepairFailed(f"{bad.address} {bad.problem}." + (f" {bad.server} answered." if bad.server else ""))
    work.remember(closes={str(code): count for code, count in snapshot(HOURS).closes.items()})
    return found


def legs() -> tuple[Shaken | None, Shaken]:
    """(where the web server listens, where people come): None for the first when nothing answers there."""
    leg = inside_leg()
    parts = urlsplit(leg.url) if leg is not None else None
    return (shake(f"{parts.scheme}://{parts.netloc}") if parts is not None else None), shake(public_url())


register_repair(
    BROWSER_CHECK,
    title="Try a socket",
    repair_class="A",
    button="Try a socket",
    explain="Opens a socket inside and at the public address and measures the way there and back. From a browser, with a one-use ticket of "
    "yours, it runs on the page “WebSocket check”.",
    plan=plan_check,
    apply=apply_check,
    fields=(ServiceField("anyway", "Although nothing was refused", kind="bool", default=False),),
)


# Proxies


@register_check(
    "ws.proxy_upgrade",
    title="Whatever lies in front lets sockets through",
    tags=("portal", "sockets", "network"),
    interval=300,
    severity="error",
    timeout=30,
    opens_after=2,
    depends_on=("db.reachable", "net.host_unreachable"),
)
def proxy_upgrade() -> CheckOutcome:
    """A socket inside and one at ``PUBLIC_URL``: the first works and the second does not, although plain requests pass, is a proxy that
    does not upgrade."""
    inside, outside = legs()
    evidence: dict[str, Any] = {"inside": inside.to_dict() if inside else None, "outside": outside.to_dict()}
    if inside is None:
        return CheckOutcome("skip", "The web server does not answer where it listens; other checks tell why.", evidence)
    if outside.ok:
        return CheckOutcome(
            "pass", f"Sockets open at {outside.address}, a frame takes {outside.echo_ms} ms there and back.", evidence
        )
    if not inside.ok:
        return CheckOutcome(
            "fail",
            f"Sockets do not even open where the web server listens: {inside.address} {inside.problem}.",
            evidence,
        )
    status, server = server_of(public_url())
    evidence |= {"plain_status": status, "proxy": outside.server or server}
    if status != 200:
        return CheckOutcome(
            "skip", f"Plain requests do not pass at {public_url()} either ({status}); other checks tell why.", evidence
        )
    who = outside.server or server or "what lies in front"
    return CheckOutcome(
        "fail",
        f"{outside.address} {outside.problem}, while plain requests pass and sockets open inside: {who} does not upgrade. The chat page gets "
        "no answers.",
        evidence,
    )


@register_guide("ws.proxy_upgrade", "ws.flapping")
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """What each common proxy needs for sockets, for this host and path; the one that was recognised first."""
    outside = urlsplit(public_url())
    host = outside.hostname or "localhost"
    path = f"{outside.path.rstrip('/')}/ws"
    upstream = f"127.0.0.1:{settings.PORT}"
    nginx = (
        f"location {path} {{\n    proxy_pass http://{upstream};\n    proxy_http_version 1.1;\n    proxy_set_header Upgrade $http_upgrade;\n"
        '    proxy_set_header Connection "upgrade";\n    proxy_set_header Host $host;\n    proxy_set_header X-Forwarded-Proto $scheme;\n'
        "    proxy_read_timeout 1h;\n    proxy_send_timeout 1h;\n    access_log off;  # addresses of old clients carry tokens\n}"
    )
    caddy = f"{host} {{\n    reverse_proxy {upstream} {{\n        stream_timeout 24h\n        stream_close_delay 5m\n    }}\n}}"
    traefik = (
        f'http:\n  routers:\n    switchboard:\n      rule: "Host(`{host}`)"\n      service: switchboard\n  services:\n    switchboard:\n'
        f'      loadBalancer:\n        servers:\n          - url: "http://{upstream}"\n'
        "# static configuration: no read timeout on the entry point\nentryPoints:\n  websecure:\n    transport:\n      respondingTimeouts:\n        readTimeout: 0s\n        idleTimeout: 1h"
    )
    apache = f'<Location "{path}">\n    ProxyPass "ws://{upstream}{path}" upgrade=websocket timeout=3600\n</Location>\n# a2enmod proxy proxy_http proxy_wstunnel'
    snippets = {
        "nginx": GuideStep(
            "nginx: pass the upgrade on, and do not end quiet connections.",
            nginx,
            "nginx",
            f"the server block of {host}",
        ),
        "caddy": GuideStep("Caddy upgrades by itself; keep streams open.", caddy, "caddy", "Caddyfile"),
        "traefik": GuideStep(
            "Traefik upgrades by itself; lift the read timeout.", traefik, "yaml", "the configuration"
        ),
        "apache": GuideStep(
            "Apache: a tunnel for this path, before the general ProxyPass.",
            apache,
            "apache",
            f"the virtual host of {host}",
        ),
    }
    who = str(evidence.get("proxy") or "").lower()
    order = sorted(snippets, key=lambda name: name not in who)
    why = (
        f"{evidence.get('proxy')} stands in front of {public_url()}."
        if evidence.get("proxy")
        else f"Something stands in front of {public_url()}; its kind is not known."
    )
    curl = (
        f"curl -si --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' "
        f"-H 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==' {public_url()}/ws | head -5"
    )
    return Guide(
        "Let sockets through",
        f"{why} A socket begins as a request that asks to be upgraded (101); a proxy has to pass that on, and to leave it open.",
        (
            GuideStep("See it: the first line has to say 101.", curl),
            *(snippets[name] for name in order),
            GuideStep("Look again.", "python manage.py doctor ws.proxy_upgrade ws.flapping"),
        ),
    )


# Drops after the same time


def peak(lifetimes: Counter[int]) -> tuple[int, int, int] | None:
    """(seconds, drops within a second of them, drops in all) when at least half of all drops came after the same time."""
    total = sum(lifetimes.values())
    if total < DROPS:
        return None
    around = {at: sum(lifetimes.get(at + step, 0) for step in (-1, 0, 1)) for at in lifetimes if 2 <= at <= 3600}
    if not around:
        return None
    best = max(around, key=lambda at: (around[at], lifetimes[at]))
    count = around[best]
    return (best, count, total) if count >= DROPS and count >= SHARE * total else None


def drops() -> Counter[int]:
    """Lifetimes of sockets that were cut within six hours, and since the heartbeat was last changed: its hour counts to before."""
    since = timezone.now() - timedelta(hours=FLAPPING_HOURS)
    row = live_row(HEARTBEAT)
    changed: datetime | None = row.changed_at if row is not None else None
    rows = SocketClose.objects.filter(code__in=CUT, hour__gte=since - timedelta(hours=1))
    if changed is not None:
        rows = rows.filter(hour__gt=changed.replace(minute=0, second=0, microsecond=0))
    found: Counter[int] = Counter()
    for seconds, count in rows.values_list("seconds", "count"):
        found[seconds] += count
    return found


@register_check(
    "ws.flapping",
    title="Sockets stay open",
    tags=("portal", "sockets"),
    interval=300,
    severity="warning",
    depends_on=("db.reachable",),
    repairs=(SET_HEARTBEAT,),
)
def flapping() -> CheckOutcome:
    """Lifetimes of sockets that were cut, within six hours. Many that end after the same time end by somebody's clock: a proxy's idle
    time-out."""
    lifetimes = drops()
    found = peak(lifetimes)
    heartbeat = int(live(HEARTBEAT))
    evidence: dict[str, Any] = {
        "heartbeat_seconds": heartbeat,
        "drops": sum(lifetimes.values()),
        "lifetimes": {
            str(seconds): count for seconds, count in sorted(lifetimes.items(), key=lambda one: -one[1])[:30]
        },
    }
    if found is None:
        return CheckOutcome(
            "pass",
            f"{counted(evidence['drops'], 'socket was', 'sockets were')} cut within {FLAPPING_HOURS} hours, at no particular time.",
            evidence,
        )
    seconds, count, total = found
    evidence |= {"peak_seconds": seconds, "share": round(count / total, 2)}
    lower = wanted(seconds, heartbeat)
    sentence = (
        f"{count / total:.0%} of {total} drops came after {seconds} s ± 1: the idle time-out of something in front, with a heartbeat every "
        f"{heartbeat} s. Answers go on where they were cut, but people see the page reconnect."
    )
    return CheckOutcome(
        "warn", sentence, evidence, fix=Fix(SET_HEARTBEAT, "", {"seconds": lower}) if lower < heartbeat else None
    )


def wanted(seconds: int, heartbeat: int) -> int:
    """A heartbeat that comes three times before the time-out; at least a third shorter than now, and never below the least."""
    return max(LOWEST, min(seconds // 3, heartbeat * 2 // 3))


def plan_heartbeat(work: RepairWork) -> Plan:
    """The number that would count from now on."""
    now = int(live(HEARTBEAT))
    found = peak(drops())
    given = work.params.get("seconds")
    if not given and found is None:
        return Plan(f"Sockets are not cut after the same time; the heartbeat of {now} s stays.")
    text = str(given or wanted(found[0], now))  # type: ignore[index]
    if not text.isdigit() or not LOWEST <= int(text) <= 60:
        raise RepairRefused(f"Give seconds from {LOWEST} to 60.")
    seconds = int(text)
    if seconds == now:
        return Plan(
            f"The heartbeat comes every {now} s already. What cuts sockets in spite of it is a proxy: see the guide."
        )
    row = live_row(HEARTBEAT)
    return Plan(
        f"Sockets send a heartbeat every {seconds} s, at once and in every process.",
        (Change(f"setting:{HEARTBEAT}", "seconds", now, seconds),),
        {"seconds": seconds},
        {"before": row.value if row is not None else None},
    )


def apply_heartbeat(work: RepairWork) -> dict[str, Any]:
    """Live: open sockets follow with their next heartbeat."""
    live_set(key=HEARTBEAT, value=work.plan.data["seconds"], actor=work.actor)
    return {"seconds": work.plan.data["seconds"]}


def undo_heartbeat(work: RepairWork) -> None:
    """The number of before."""
    if work.snapshot["before"] is None:
        live_clear(key=HEARTBEAT, actor=work.actor)
    else:
        live_set(key=HEARTBEAT, value=work.snapshot["before"], actor=work.actor)


register_repair(
    SET_HEARTBEAT,
    title="Shorten the heartbeat of sockets",
    repair_class="A",
    button="Shorten it",
    explain="A frame passes more often, so that nothing in front takes an open socket for an idle one. Streams go on where they were cut.",
    plan=plan_heartbeat,
    apply=apply_heartbeat,
    undo=undo_heartbeat,
    fields=(ServiceField("seconds", "Seconds", f"From {LOWEST} to 60.", kind="number", default=""),),
)
