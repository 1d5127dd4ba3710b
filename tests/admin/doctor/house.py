"""Checks and repairs that stand on nothing but rows of services: each page of the doctor can be seen at work without any server.

``test.services_on`` is red while a service is switched off. Its repairs switch on (C), rename nothing, forget (D), take their time
(a job), ask something (A with a form) or fail.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ops.doctor.guides import Guide, GuideStep, _guides, register_guide
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair, unregister_repair
from ops.doctor.targets import _kinds, register_target
from ops.models import Service
from ops.registry import Affected, CheckOutcome, Fix, ServiceField, register_check, unregister_check
from ops.words import counted

CHECKS = ("test.services_on", "test.follows", "test.waits", "test.paper", "test.addresses")
REPAIRS = ("test.switch_on", "test.forget", "test.slow", "test.address", "test.fails")
SECRET = "s3cret-in-a-form"


def _off(work: RepairWork) -> list[Service]:
    rows = Service.objects.filter(enabled=False).order_by("name")
    if work.target.startswith("service:"):
        rows = rows.filter(pk=work.target.partition(":")[2])
    return list(rows)


def _plan_on(work: RepairWork) -> Plan:
    rows = _off(work)
    changes = tuple(Change(f"service:{row.pk}", "switched on", before=False, after=True) for row in rows)
    return Plan(f"Switches on {len(rows)} services.", changes, {"ids": [row.pk for row in rows]}, {"ids": [row.pk for row in rows]})  # fmt: skip


def _apply_on(work: RepairWork) -> dict[str, Any]:
    return {"switched_on": Service.objects.filter(pk__in=work.plan.data["ids"]).update(enabled=True)}


def _undo_on(work: RepairWork) -> None:
    Service.objects.filter(pk__in=work.snapshot["ids"]).update(enabled=False)


def _apply_slowly(work: RepairWork) -> dict[str, Any]:
    for step in range(6):
        work.progress(step, 6, f"Step {step}")
        time.sleep(0.05)
    return _apply_on(work)


def _plan_address(work: RepairWork) -> Plan:
    row = Service.objects.order_by("name").first()
    if row is None:
        raise RepairRefused("There is no service whose address could be set.")
    if not str(work.params["address"]).startswith("http"):
        raise RepairRefused("An address starts with its scheme, for example http://")
    change = Change(f"service:{row.pk}", "address", before=row.base_url, after=work.params["address"])
    changes = (change,) if row.base_url != work.params["address"] else ()
    return Plan("Sets the address.", changes, {"id": row.pk}, {"id": row.pk, "address": row.base_url})


def _apply_address(work: RepairWork) -> dict[str, Any]:
    Service.objects.filter(pk=work.plan.data["id"]).update(base_url=work.params["address"])
    return {}


def _undo_address(work: RepairWork) -> None:
    Service.objects.filter(pk=work.snapshot["id"]).update(base_url=work.snapshot["address"])


def _fail(work: RepairWork) -> dict[str, Any]:
    raise RepairFailed("The server refused it (M_FORBIDDEN).")


def services_on() -> CheckOutcome:
    rows = list(Service.objects.filter(enabled=False).order_by("name"))
    if not rows:
        return CheckOutcome("pass", "Every service is switched on.")
    affected = tuple(Affected(f"service:{row.pk}", f"{row.name} is switched off.", {"address": row.base_url}) for row in rows)  # fmt: skip
    return CheckOutcome(
        "fail",
        f"{counted(len(rows), 'service is', 'services are')} switched off. Their agents do not answer. Switch them on.",
        {"switched_off": [row.name for row in rows], "free_bytes": 1_500_000_000, "nested": {"token_count": 3}},
        affected,
        Fix("test.switch_on"),
    )


def follows() -> CheckOutcome:
    off = Service.objects.filter(enabled=False).exists()
    return CheckOutcome("warn" if off else "pass", "Answers are late, because a service is off." if off else "In time.")


def waits() -> CheckOutcome:
    return CheckOutcome("pass", "Nothing waits.")


def paper() -> CheckOutcome:
    broken = Service.objects.filter(name="proxy").exists()
    sentence = "The proxy in front closes connections after a minute. Streams break. Raise its time-out."
    return CheckOutcome("fail", sentence, {"timeout_seconds": 60}) if broken else CheckOutcome("pass", "Fine.")


def addresses() -> CheckOutcome:
    wrong = Service.objects.filter(base_url__startswith="http://wrong").exists()
    return CheckOutcome("fail", "An address leads nowhere.") if wrong else CheckOutcome("pass", "All lead somewhere.")


def paper_guide(target: str, evidence: dict[str, Any]) -> Guide:
    return Guide(
        "Raise the proxy's time-out",
        "A stream is silent while an agent thinks; the proxy takes that for dead.",
        (
            GuideStep(
                "Add these lines to the server block.",
                "proxy_read_timeout 3600s;\nproxy_buffering off;",
                "nginx",
                "/etc/nginx/conf.d/switchboard.conf",
            ),
            GuideStep("Load it.", "sudo nginx -s reload"),
        ),
    )


@contextmanager
def doctor_house() -> Iterator[None]:
    """Everything registered while it is open."""
    had_service = "service" in _kinds
    register_target("service", "ops.Service")
    register_check(
        "test.services_on", title="Services are on", tags=("config",), severity="critical",
        repairs=("test.switch_on", "test.forget", "test.slow", "test.fails"),
    )(services_on)  # fmt: skip
    register_check(
        "test.follows", title="Answers are in time", tags=("messages",), severity="warning", repairs=("test.slow",)
    )(follows)
    register_check(
        "test.waits", title="Nothing waits for a service", tags=("messages",), depends_on=("test.services_on",)
    )(waits)
    register_check("test.paper", title="The proxy keeps streams open", tags=("network",))(paper)
    register_check("test.addresses", title="Addresses lead somewhere", tags=("network",), repairs=("test.address",))(
        addresses
    )
    register_guide("test.paper")(paper_guide)
    register_repair(
        "test.switch_on", title="Switch services on", repair_class="A", button="Switch on",
        explain="Switches on every service that is off.", plan=_plan_on, apply=_apply_on, undo=_undo_on,
        target_kinds=("service",), atomic=True,
    )  # fmt: skip
    register_repair(
        "test.forget", title="Forget services that are off", repair_class="D", button="Forget",
        explain="Removes them.", plan=_plan_on, apply=_apply_on, undo=_undo_on, confirm_word=lambda work: "forget",
    )  # fmt: skip
    register_repair(
        "test.slow", title="Switch on, slowly", repair_class="C", button="Slowly",
        explain="As a job.", plan=_plan_on, apply=_apply_slowly, undo=_undo_on, long=True,
    )  # fmt: skip
    register_repair(
        "test.address", title="Set an address", repair_class="C", button="Set it",
        explain="Sets the address of the first service.", plan=_plan_address, apply=_apply_address, undo=_undo_address,
        fields=(ServiceField("address", "Address", required=True), ServiceField("password", "Password", secret=True)),
    )  # fmt: skip
    register_repair(
        "test.fails",
        title="Try in vain",
        repair_class="C",
        button="Try",
        explain="It fails.",
        plan=_plan_on,
        apply=_fail,
    )
    try:
        yield
    finally:
        for id in CHECKS:
            unregister_check(id)
        for id in REPAIRS:
            unregister_repair(id)
        _guides.pop("test.paper", None)
        if not had_service:
            _kinds.pop("service", None)
