"""One table of health endpoints, whatever each of them calls "ok", and one document that says how everything is."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx
from django.conf import settings
from django.utils import timezone

from ops.choices import CheckStatus
from ops.doctor_services.checks_processes import livez_address
from ops.live import live, register_live
from ops.models import CheckState
from ops.processes.facts import boot_id
from ops.processes.queries import alive
from ops.registry import CheckOutcome, Fix, register_check

KEY = "HEALTH_PROBES"
_LONGEST = 5.0
_DEFAULT_MS = 2000
_BODY = 256 * 1024


@dataclass(frozen=True, slots=True)
class Probe:
    """One endpoint and what counts as well: the status, a value at a dotted path of its JSON (if any), and the time."""

    name: str
    url: str
    status: int = 200
    path: str = ""
    value: str = ""
    max_ms: int = _DEFAULT_MS


def parse_probe(line: str) -> Probe:
    """``name url [status=200] [json=path.to=value] [ms=2000]``. Raises ``ValueError`` with a sentence."""
    words = shlex.split(line)
    if len(words) < 2 or not words[1].startswith(("http://", "https://")):
        raise ValueError(
            f"{line!r} is no probe: write a name, an address, and what to expect (status=200 json=status=ok ms=2000)."
        )
    fields: dict[str, Any] = {}
    for word in words[2:]:
        key, _, value = word.partition("=")
        if key in ("status", "ms") and value.isdigit():
            fields["status" if key == "status" else "max_ms"] = int(value)
        elif key == "json" and "=" in value:
            fields["path"], _, fields["value"] = value.partition("=")
        else:
            raise ValueError(f"{word!r} is not understood in a probe: status=200, json=path=value or ms=2000.")
    return Probe(words[0][:60], words[1], **fields)


def _parse(value: Any) -> list[str]:
    lines = value.splitlines() if isinstance(value, str) else value
    if not isinstance(lines, list):
        raise ValueError("Give one probe a line.")
    kept = [str(line).strip() for line in lines if str(line).strip()]
    names = [parse_probe(line).name for line in kept]
    if len(set(names)) != len(names):
        raise ValueError("Two probes have the same name.")
    return kept


register_live(
    KEY,
    label="Health endpoints to watch",
    help="One a line: name, address, and what to expect. Example: letta http://127.0.0.1:8283/v1/health/ json=status=ok ms=1000",
    parse=_parse,
    default=list,
)


def own_probes() -> list[Probe]:
    """Our own endpoints, at the web server of this machine."""
    row = next(
        (r for r in alive(("web", "up")) if r.ports and r.ready_after_seconds is not None and r.boot_id == boot_id()),
        None,
    )
    if row is None:
        return []
    base = livez_address(row).removesuffix("/livez")
    return [
        Probe("switchboard-ready", f"{base}/readyz", max_ms=4000),
        Probe("switchboard-health", f"{base}/health", path="status", value="healthy", max_ms=4000),
    ]


def table() -> dict[str, Probe]:
    """All probes by name: our own, and those that operators added."""
    probes = [*own_probes(), *(parse_probe(line) for line in live(KEY))]
    return {probe.name: probe for probe in probes}


def _names() -> Iterable[str]:
    return table()


@register_check(
    "svc.health_endpoints",
    title="Every health endpoint says that it is well",
    tags=("services", "network"),
    interval=60,
    severity="error",
    timeout=12,
    scope="probe",
    targets=_names,
    depends_on=("db.reachable", "broker.reachable", "api.down"),
    opens_after=2,
    repairs=("health.recheck",),
)
def health_endpoint(name: str) -> CheckOutcome:
    """Red for a wrong status, a wrong word in the document, or no answer; a warning when it takes longer than it may.

    The table holds our own ``/readyz`` and ``/health`` and whatever an operator adds (``HEALTH_PROBES``).
    """
    probe = table().get(name)
    if probe is None:
        return CheckOutcome("skip", "The probe was removed.")
    started = time.monotonic()
    evidence: dict[str, Any] = {"url": probe.url, "expected": _expected(probe)}
    fix = Fix("health.recheck", name)
    try:
        with httpx.stream("GET", probe.url, timeout=_LONGEST, headers={"Accept": "application/json"}) as answer:
            body = b""
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > _BODY:
                    break
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return CheckOutcome(
            "fail", f"{name} does not answer at {probe.url} ({type(error).__name__}).", evidence, fix=fix
        )
    milliseconds = round((time.monotonic() - started) * 1000)
    evidence |= {"status": answer.status_code, "milliseconds": milliseconds}
    if answer.status_code != probe.status:
        sentence = f"{name} answers {answer.status_code} instead of {probe.status}: it says itself that it is not well."
        return CheckOutcome("fail", sentence, evidence, fix=fix)
    if probe.path:
        said = _at(body, probe.path)
        evidence["said"] = said[:200]
        if said != probe.value:
            return CheckOutcome(
                "fail", f"{name} says {said[:60]!r} at {probe.path}, not {probe.value!r}.", evidence, fix=fix
            )
    if milliseconds > probe.max_ms:
        return CheckOutcome(
            "warn", f"{name} is well and took {milliseconds} ms; {probe.max_ms} are allowed.", evidence, fix=fix
        )
    return CheckOutcome("pass", f"{name} is well ({milliseconds} ms).", evidence)


def _expected(probe: Probe) -> str:
    more = f", {probe.path} = {probe.value}" if probe.path else ""
    return f"status {probe.status}{more}, within {probe.max_ms} ms"


def _at(body: bytes, path: str) -> str:
    """The value at a dotted path as text; what went wrong when there is none."""
    try:
        found = json.loads(body)
        for key in path.split("."):
            found = found[int(key)] if isinstance(found, list) else found[key]
    except (ValueError, KeyError, IndexError, TypeError):
        return "nothing"
    return found if isinstance(found, str) else json.dumps(found)


_WORST = (CheckStatus.FAIL, CheckStatus.BLOCKED, CheckStatus.WARN, CheckStatus.PASS, CheckStatus.SKIP)
_WORDS = {CheckStatus.FAIL: "fail", CheckStatus.BLOCKED: "fail", CheckStatus.WARN: "warn"}


def health_document(*, detailed: bool) -> dict[str, Any]:
    """How everything is, by what the checks found last: ``{status, version, time, checks}``, each status pass, warn or fail.

    ``checks`` maps a check's id to ``[{component, status, output, time, observed_ms}]`` and is for those who may see details;
    others get the first three. The shape follows the health check response format for HTTP APIs (draft-inadarei-api-health-check).
    """
    states = list(CheckState.objects.order_by("check_id", "target"))
    worst = min(
        (state.status for state in states), key=lambda s: _WORST.index(CheckStatus(s)), default=CheckStatus.PASS
    )
    document: dict[str, Any] = {
        "status": _WORDS.get(CheckStatus(worst), "pass"),
        "version": settings.VERSION,
        "time": timezone.now().isoformat(),
    }
    if detailed:
        checks: dict[str, list[dict[str, Any]]] = {}
        for state in states:
            checks.setdefault(state.check_id, []).append(
                {
                    "component": state.target,
                    "status": _WORDS.get(CheckStatus(state.status), "pass"),
                    "output": state.sentence if state.status not in (CheckStatus.PASS, CheckStatus.SKIP) else "",
                    "time": state.checked_at.isoformat(),
                    "since": state.since.isoformat(),
                    "observed_ms": state.duration_ms,
                }
            )
        document["checks"] = checks
    return document
