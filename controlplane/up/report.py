"""The first sync and the table: what runs where, which agents have which rooms, what to open."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connections
from django.urls import Resolver404, resolve
from rich.table import Table
from rich.text import Text

from agents.models import Agent, AgentState
from agents.services.sync import SyncBusy, SyncReport, sync_agents
from chat.models import Person
from controlplane.setup.links import operator_exists, setup_token, setup_url
from controlplane.up.terminal import Terminal
from ops.choices import Lamp, ServiceStatus
from ops.models import Service
from ops.registry import service_kind
from ops.services.reconciling import reconcile_what_waits
from ops.services.services import service_test
from ops.terminal import lamp_text
from ops.words import counted

if TYPE_CHECKING:
    from controlplane.up.run import Up

MOST_AGENTS = 15
_TEST_SECONDS = 3.0
_SEVERITY = {"info": Lamp.OFF, "warning": Lamp.ATTENTION}


def after_restore(terminal: Terminal) -> None:
    """What a restore could not do while the homeserver was not started; before anything new is made there."""
    restore = None
    with terminal.working("Taking up what was made since the backup") as progress:
        restore = reconcile_what_waits(actor="system", progress=lambda done, total, text: progress(text))
    if restore is None:
        return
    failed = [str(said["label"]) for said in restore.report.values() if said.get("error")]
    if failed:
        terminal.say(
            Lamp.ATTENTION, f"The restore could not be brought together with: {', '.join(failed)}. Its page says why."
        )
    else:
        terminal.say(Lamp.GOOD, "The restored backup is brought together with the homeserver.")


def first_sync(terminal: Terminal, *, should_stop: Callable[[], bool]) -> None:
    """Bring agents and rooms up to date, showing how far it is; says nothing when there was nothing to do."""
    try:
        with terminal.working("First sync") as progress:
            outcome = sync_agents(
                actor="system",
                trigger="start",
                wait=30.0,
                should_stop=should_stop,
                progress=lambda done, total, text: progress(f"{done} of {total}, {text}"),
            )
    except SyncBusy:
        terminal.say(Lamp.WORKING, "Another sync runs already; the list below may be incomplete.")
        return
    _tell(terminal, outcome)


def _tell(terminal: Terminal, outcome: SyncReport) -> None:
    if outcome.applied:
        steps = sum(outcome.applied.values())
        terminal.say(Lamp.GOOD, f"Synced: {counted(steps, 'step')} done.")
    for finding in outcome.findings[:10]:
        if finding.severity != "info" and finding.code != "homeserver.none":
            terminal.say(_SEVERITY.get(finding.severity, Lamp.TROUBLE), finding.sentence)
    if len(outcome.findings) > 10:
        terminal.say(Lamp.ATTENTION, f"... and {len(outcome.findings) - 10} more; see: manage.py sync_agents --dry-run")
    if outcome.error:
        terminal.say(Lamp.TROUBLE, f"The rest was left for the next sync: {outcome.error}")
    if outcome.plan.stopped:
        terminal.say(Lamp.ATTENTION, "The sync stopped to ask. Look at it with: manage.py sync_agents --dry-run")


def overview(terminal: Terminal, up: Up, *, seconds: float) -> None:
    """Print the whole table."""
    terminal.console.print()
    terminal.console.print(_running(up))
    terminal.console.print()
    _agents(terminal)
    terminal.console.print()
    _what_to_open(terminal)
    terminal.say(Lamp.GOOD, f"Ready after {seconds:.1f} s. Ctrl-C stops everything.")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, show_header=bool(columns), header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _running(up: Up) -> Table:
    table = _table("What runs", "State", "Where")
    table.add_row("Web server", lamp_text(Lamp.GOOD, "good"), settings.PUBLIC_URL)
    table.add_row(
        "Worker, beat",
        lamp_text(Lamp.GOOD, "good"),
        f"in this process, {counted(settings.WORKER_CONCURRENCY, 'thread')}",
    )
    broker = "in this process" if settings.EMBEDDED else settings.CELERY_BROKER_URL.partition("://")[0]
    table.add_row("Broker", lamp_text(Lamp.GOOD, "good"), broker)
    engine = connections["default"]
    where = (
        _short(str(engine.settings_dict["NAME"]))
        if engine.vendor == "sqlite"
        else f"database {engine.settings_dict['NAME']}"
    )
    table.add_row("Database", lamp_text(Lamp.GOOD, "good"), f"{engine.vendor}, {where}")
    for service, lamp, word, place in _services():
        table.add_row(service, lamp_text(lamp, word), place)
    if not Service.objects.filter(enabled=True, kind="homeserver").exists():
        why = "not wanted (--no-homeserver)" if not up.with_homeserver else "none"
        table.add_row("Homeserver", lamp_text(Lamp.OFF, "off"), f"{why}: agents have no rooms")
    return table


def _services() -> list[tuple[str, Lamp, str, str]]:
    """Every enabled service, tested now; one that takes too long is shown as working."""
    rows = list(Service.objects.filter(enabled=True).order_by("pk"))
    pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="first-test")
    tests = {service.pk: pool.submit(_test, service) for service in rows}
    wait(tests.values(), timeout=_TEST_SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    found = []
    for service in rows:
        test = tests[service.pk]
        kind = service_kind(service.kind)
        name = "Homeserver" if service.kind == "homeserver" else f"{kind.label if kind else service.kind}"
        place = service.base_url or "in this process"
        if service.kind == "homeserver" and service.options.get("server_name"):
            place += f" ({service.options['server_name']}{', local' if service.options.get('local') else ''})"
        if not test.done():
            found.append((name, Lamp.WORKING, "not answered yet", place))
            continue
        status, sentence = test.result()
        lamp = ServiceStatus(status).lamp
        found.append(
            (name, lamp, "good" if lamp is Lamp.GOOD else str(status), place if lamp is Lamp.GOOD else sentence)
        )
    return found


def _test(service: Service) -> tuple[str, str]:
    try:
        result = service_test(service=service, actor="system")
        return result.status, result.sentence
    finally:
        connections.close_all()


_STATES = {
    "connected": Lamp.GOOD,
    "incomplete": Lamp.WORKING,
    "ready": Lamp.GOOD,
    "missing": Lamp.ATTENTION,
    "paused": Lamp.OFF,
    "trouble": Lamp.TROUBLE,
}


def _agents(terminal: Terminal) -> None:
    agents = Agent.objects.exclude(state=AgentState.ARCHIVED).filter(service__enabled=True)
    total = agents.count()
    if not total:
        terminal.say(Lamp.OFF, "No agents yet. They appear here and in the admin as soon as a backend lists some.")
        return
    table = _table("Agent", "State", "Room")
    table.columns[0].max_width = 20
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    for agent in agents.select_related("mapping__account", "mapping__room").order_by("name", "pk")[:MOST_AGENTS]:
        mapping = getattr(agent, "mapping", None)
        room = mapping.room if mapping is not None else None
        status = mapping.status if mapping is not None else "no room"
        place = (room.alias or room.room_id or "") if room is not None and room.room_id else ""
        table.add_row(Text(agent.name), lamp_text(_STATES.get(status, Lamp.OFF), status), place)
    terminal.console.print(table)
    if total > MOST_AGENTS:
        terminal.plain(f"and {total - MOST_AGENTS} more")


def _what_to_open(terminal: Terminal) -> None:
    base = settings.PUBLIC_URL
    lines: list[tuple[str, str]] = []
    if not operator_exists():
        lines.append(("Begin here (once)", setup_url(base, setup_token(person=None, actor="system"))))
    for label, path in (("Admin", "/admin/"), ("API", "/api/docs"), ("Health", "/readyz?verbose")):
        if _exists(path):
            lines.append((label, base + path))
    homeserver = Service.objects.filter(enabled=True, kind="homeserver").order_by("pk").first()
    if homeserver is not None:
        person = Person.objects.filter(is_staff=True).exclude(matrix_user_id="").order_by("pk").first()
        who = f", as {person.matrix_user_id}" if person is not None else ""
        lines.append(("Matrix client", f"Element or another, homeserver {homeserver.base_url}{who}"))
    agent = Agent.objects.filter(state=AgentState.ACTIVE, service__enabled=True).order_by("name").first()
    if agent is not None and homeserver is not None:
        lines.append(("Talk from here", f'.venv/bin/python manage.py say "{agent.name}" "Hello"'))
    width = max(len(label) for label, _ in lines) + 2
    for label, text in lines:
        # Never wrapped: an address with a line break in it cannot be clicked or copied.
        terminal.plain(f"{label:<{width}}{text}")
    terminal.plain()


def _exists(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True


def _short(path: str) -> str:
    base = f"{settings.BASE_DIR}/"
    return path.removeprefix(base)
