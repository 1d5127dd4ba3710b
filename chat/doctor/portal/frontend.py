"""``frontend.static_missing`` and ``frontend.styles_missing``: the pages come with all their files. ``static.collect`` makes them whole."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from chat.doctor.portal.pages import Fetched, Visit, visit
from chat.portal.beacon import EVENT
from ops import static_files
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.doctor.repairs import Change, Plan, RepairRefused, RepairWork, register_repair
from ops.models import LogLine
from ops.network.places import public_url
from ops.registry import CheckOutcome, register_check
from ops.services.audit import record
from ops.words import counted, verb

# What the stylesheets must at least say, and how long they are at least together: less is a page without its look.
KNOWN = {"portal/tokens.css": "--surface", "portal/base.css": ".site-header"}
FLOOR = 2000
_BEACON_FOR = timedelta(hours=1)
# Both checks look at one visit; a browser would make it once as well.
_FRESH = 5.0
_last: tuple[float, Visit] | None = None


def _visit() -> Visit:
    global _last
    now = time.monotonic()
    if _last is None or now - _last[0] > _FRESH:
        _last = (now, visit())
    return _last[1]


def forget() -> None:
    """Look anew at the next question: after a repair, and in tests."""
    global _last
    _last = None


@register_check(
    "frontend.static_missing",
    title="The portal's pages come with all their files",
    tags=("portal", "web"),
    interval=300,
    severity="error",
    timeout=60,
    depends_on=("db.reachable",),
    repairs=("static.collect",),
)
def static_missing() -> CheckOutcome:
    """Fetches the pages, every file that they refer to or import, and every file of the portal: status, type, and content against
    the installation's own. What browsers report of missing files within the last hour turns it amber."""
    found = _visit()
    if not found.base:
        return CheckOutcome("skip", "The web server does not answer where it listens; other checks tell why.")
    bad = [one for one in (*found.pages, *found.assets) if one.problem and not one.is_style]
    missing, errors = _told_by_browsers()
    evidence: dict[str, Any] = {
        "base": found.base,
        "pages": [one.to_dict() for one in found.pages],
        "files": len(found.assets),
        "bad": [one.to_dict() for one in bad[:30]],
        "browser_errors": errors,
        "browsers_missed": missing[:10],
    }
    if bad:
        return CheckOutcome("fail", f"{_sentence(bad)} People see a blank or a dead page.", evidence)
    if missing:
        return CheckOutcome(
            "warn",
            f"Browsers did not get {missing[0]}{' and others' if len(missing) > 1 else ''}, although it comes from here. "
            f"Something between them and us ({public_url()}) holds it back.",
            evidence,
        )
    told = f"; browsers reported {counted(errors, 'script error')} within the last hour" if errors else ""
    return CheckOutcome(
        "pass",
        f"{counted(len(found.pages), 'page')} and {counted(len(found.assets), 'file')} come whole{told}.",
        evidence,
    )


@register_check(
    "frontend.styles_missing",
    title="The portal's pages have their look",
    tags=("portal", "web"),
    interval=300,
    severity="warning",
    timeout=60,
    depends_on=("db.reachable",),
    repairs=("static.collect",),
)
def styles_missing() -> CheckOutcome:
    """As ``frontend.static_missing`` for stylesheets: they come, are theirs, are not too short, and hold rules that pages need."""
    found = _visit()
    if not found.base:
        return CheckOutcome("skip", "The web server does not answer where it listens; other checks tell why.")
    styles = [one for one in found.assets if one.is_style]
    bad = [one for one in styles if one.problem]
    size = sum(one.size for one in styles if "/portal/" in one.address)
    evidence = {"base": found.base, "styles": [one.to_dict() for one in styles], "size": size, "floor": FLOOR}
    if bad:
        return CheckOutcome("fail", f"{_sentence(bad)} Pages lose their look.", evidence)
    lacking = _lacking({one.address for one in styles})
    if size < FLOOR or lacking:
        why = f"lack {lacking}" if lacking else f"are {size:,} bytes in all"
        return CheckOutcome("fail", f"The portal's stylesheets {why}. Pages lose their look.", evidence)
    return CheckOutcome("pass", f"{counted(len(styles), 'stylesheet')} come whole.", evidence)


def _lacking(addresses: set[str]) -> str:
    """A rule that the installation's own stylesheets do not hold; what is served is the same, byte by byte."""
    files = static_files.own_files()
    for name, rule in KNOWN.items():
        if f"{settings.STATIC_URL}{name}" not in addresses or name not in files or rule not in files[name].read_text():
            return f"{name} ({rule})"
    return ""


def _sentence(bad: list[Fetched]) -> str:
    first = bad[0]
    more = (
        f", and {counted(len(bad) - 1, 'other')} {verb(len(bad) - 1, 'is', 'are')} not right either"
        if len(bad) > 1
        else ""
    )
    return f"{first.address} → {first.problem}{more}."


def _told_by_browsers() -> tuple[list[str], int]:
    """(files that browsers missed, script errors) of the last hour."""
    rows = LogLine.objects.filter(event=EVENT, at__gt=timezone.now() - _BEACON_FOR).values_list("extra", flat=True)
    missing: dict[str, None] = {}
    errors = 0
    for extra in rows[:500]:
        told = extra if isinstance(extra, dict) else {}
        if told.get("kind") == "missing":
            missing[str(told.get("source") or told.get("message") or "a file")[:200]] = None
        else:
            errors += 1
    return list(missing), errors


def plan(work: RepairWork) -> Plan:
    """Files whose collected copy is not the installation's own; without a copy, whatever is not served as it should be."""
    forget()
    wrong = list(static_files.differing())
    unreadable = [f"{name} {why}" for name, why in wrong if "in the installation" in why]
    if unreadable:
        raise RepairRefused(f"The installation itself is damaged: {unreadable[0]}. Install this release again.")
    if not static_files.stamp():
        found = _visit()
        if found.base and not [one for one in (*found.pages, *found.assets) if one.problem]:
            return Plan("All files come from the installation itself, and are whole. No collected copy is needed.")
    elif not wrong and static_files.stamp().get("release") == static_files.release_of(static_files.own_files()):
        return Plan("The collected copy is that of this installation.")
    return Plan(
        f"{counted(len(wrong), 'file is', 'files are')} written to {settings.STATIC_ROOT} and served from there at once.",
        tuple(Change(f"static:{name}", "collected copy", why, "that of this release") for name, why in wrong[:200])
        or (Change("static:collected.json", "release", "another", "this one"),),
    )


def apply(work: RepairWork) -> dict[str, Any]:
    """Collect; every web process serves the new copy with its next request, and browsers ask for it within a minute."""
    written = static_files.collect()
    forget()
    record(actor=work.actor, action="static.collected", after={"files": written})
    return {"written": written}


register_repair(
    "static.collect",
    title="Collect the static files",
    repair_class="A",
    button="Collect them",
    explain="Writes the installation's own scripts, stylesheets and pictures into the data directory, each replaced at once and whole, and "
    "serves them from there. Harmless, and safe to repeat.",
    plan=plan,
    apply=apply,
)


@register_guide("frontend.static_missing", "frontend.styles_missing")
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """When it is not our files but what stands in front of them."""
    root = settings.STATIC_ROOT
    return Guide(
        "Let pages get their files",
        "A page without its scripts stays blank, one without its stylesheets is bare text.",
        (
            GuideStep(
                "Ask for one of them as people do.", f"curl -sI {public_url()}{settings.STATIC_URL}portal/base.css"
            ),
            GuideStep(
                "A proxy that serves them by itself needs the collected copy.", "python manage.py repair static.collect"
            ),
            GuideStep(
                "And has to lead there.",
                f"location {settings.STATIC_URL} {{\n    alias {root}/;\n    expires 1m;\n}}",
                "nginx",
                "the server block in nginx",
            ),
            GuideStep("Look again.", "python manage.py doctor frontend.static_missing frontend.styles_missing"),
        ),
    )
