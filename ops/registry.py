"""What other apps register with this one: kinds of services, checks, metrics. Done from their ``AppConfig.ready``.

Repairs, guides, faults and kinds of targets have registries of their own in ``ops.doctor``.

Registering the same thing from the same place twice is fine; registering another thing under a taken name is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ops.choices import CheckStatus, ServiceStatus
from ops.findings import Severity

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from ops.models import Service

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ServiceField:
    """One thing that a kind of service wants to know: a key of ``credentials`` (secret) or of ``options``."""

    name: str
    label: str
    help: str = ""
    secret: bool = False
    required: bool = False
    kind: Literal["text", "number", "bool", "choice", "list"] = "text"
    choices: tuple[tuple[str, str], ...] = ()
    default: Any = ""


@dataclass(frozen=True, slots=True)
class TestResult:
    """What a tester found out. ``status`` is ok, degraded or down; ``capabilities`` is stored unless it is None."""

    __test__ = False  # not a test class, whatever its name

    status: Literal["ok", "degraded", "down"]
    sentence: str
    version: str = ""
    capabilities: dict[str, Any] | None = None
    latency_ms: int | None = None

    @property
    def ok(self) -> bool:
        return self.status == ServiceStatus.OK


Tester = Callable[["Service"], TestResult]


@dataclass(frozen=True, slots=True)
class ServiceKind:
    """A kind of service. ``role`` says what it is to Switchboard: backend, homeserver, …"""

    kind: str
    label: str
    role: str
    fields: tuple[ServiceField, ...] = ()
    tester: Tester | None = None
    needs_address: bool = True


@dataclass(frozen=True, slots=True)
class Affected:
    """One object with which a check found something wrong. ``target`` is ``kind:id`` (``agent:42``)."""

    target: str
    sentence: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fix:
    """The one repair that a check proposes for what it found. An empty ``target`` means everything affected."""

    repair: str
    target: str = ""
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """What a check found. ``evidence`` is JSON without secrets.

    A check that sweeps over many objects says in ``affected`` with which of them something is wrong; all of them, the runner
    keeps a bounded number. ``fix`` overrides the repair that the check registered with.
    """

    status: Literal["pass", "warn", "fail", "skip"]
    sentence: str
    evidence: dict[str, Any] = field(default_factory=dict)
    affected: tuple[Affected, ...] = ()
    fix: Fix | None = None

    def __post_init__(self) -> None:
        if self.status not in CheckStatus.values:
            raise ValueError(f"{self.status!r} is not a check's status.")


@dataclass(frozen=True, slots=True)
class Check:
    """A registered test of one thing.

    ``scope`` names what its targets are ("" for the whole installation, or service, agent, …); ``targets`` lists them as text
    and the function is then called with each: for few. What there are many of (agents, rooms) is swept in one call that names
    the ``affected``. ``depends_on`` are ids of checks that must not have failed: one without targets counts for all, one with
    the same scope counts for the same target. ``interval`` and ``timeout`` are seconds. ``severity`` is how bad a failure is.

    An issue opens after ``opens_after`` bad outcomes in a row and closes after ``closes_after`` good ones. ``repairs`` are ids
    of repairs that mend it, the proposed one first. ``covers`` are entries of the catalogue that it detects besides the one
    with its own id. ``live``: it acts on the world (sends a message) and runs only when asked for.
    """

    id: str
    title: str
    function: Callable[..., CheckOutcome]
    tags: tuple[str, ...] = ()
    interval: float = 60.0
    severity: Severity = "error"
    timeout: float = 10.0
    scope: str = ""
    depends_on: tuple[str, ...] = ()
    targets: Callable[[], Iterable[str]] | None = None
    opens_after: int = 1
    closes_after: int = 1
    repairs: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    live: bool = False


# A collector is called at every scrape and yields prometheus_client metric families.
Collector = Callable[[], Iterable["Metric"]]

_kinds: dict[str, ServiceKind] = {}
_checks: dict[str, Check] = {}
_collectors: dict[str, Collector] = {}


def register_service_kind(
    kind: str,
    *,
    label: str,
    role: str,
    fields: Sequence[ServiceField] = (),
    tester: Tester | None = None,
    needs_address: bool = True,
) -> ServiceKind:
    """Make a kind of service known: what it is for, what its form asks for, and how to test it.

    The tester gets the ``Service`` row, may block, and returns a ``TestResult``; whatever it raises counts as down.
    """
    fresh = ServiceKind(kind, label, role, tuple(fields), tester, needs_address)
    known = _kinds.get(kind)
    if known is not None and (known.role, known.label) != (role, label):
        raise ValueError(f"The service kind {kind!r} is already registered as {known.label!r}.")
    _kinds[kind] = fresh
    return fresh


def service_kind(kind: str) -> ServiceKind | None:
    """The registered kind, or None."""
    return _kinds.get(kind)


def service_kinds(role: str | None = None) -> list[ServiceKind]:
    """All registered kinds, or those of one role, in the order of registration."""
    return [known for known in _kinds.values() if role is None or known.role == role]


def register_check(
    id: str,
    *,
    title: str,
    tags: Sequence[str] = (),
    interval: float = 60.0,
    severity: Severity = "error",
    timeout: float = 10.0,
    scope: str = "",
    depends_on: Sequence[str] = (),
    targets: Callable[[], Iterable[str]] | None = None,
    opens_after: int = 1,
    closes_after: int = 1,
    repairs: Sequence[str] = (),
    covers: Sequence[str] = (),
    live: bool = False,
) -> Callable[[T], T]:
    """Decorator: the function is a check. With ``targets`` it takes one target's text, else nothing; see ``Check``."""

    def register(function: T) -> T:
        known = _checks.get(id)
        if known is not None and _place(known.function) != _place(function):
            raise ValueError(f"The check {id!r} is already registered by {_place(known.function)}.")
        _checks[id] = Check(
            id=id,
            title=title,
            function=function,
            tags=tuple(tags),
            interval=interval,
            severity=severity,
            timeout=timeout,
            scope=scope,
            depends_on=tuple(depends_on),
            targets=targets,
            opens_after=opens_after,
            closes_after=closes_after,
            repairs=tuple(repairs),
            covers=tuple(covers),
            live=live,
        )
        return function

    return register


def all_checks() -> list[Check]:
    """All registered checks, dependencies before those that need them. Raises ``ValueError`` for a circle."""
    order: dict[str, Check] = {}
    open_ids: list[str] = []

    def visit(check: Check) -> None:
        if check.id in order:
            return
        if check.id in open_ids:
            raise ValueError(f"Checks depend on each other in a circle: {' -> '.join([*open_ids, check.id])}.")
        open_ids.append(check.id)
        for needed in check.depends_on:
            if needed in _checks:
                visit(_checks[needed])
        open_ids.pop()
        order[check.id] = check

    for check in _checks.values():
        visit(check)
    return list(order.values())


def get_check(id: str) -> Check | None:
    """The registered check, or None."""
    return _checks.get(id)


def unregister_check(id: str) -> None:
    """Forget a check: for apps that are switched off, and for tests."""
    _checks.pop(id, None)


def register_metrics(collector: Collector) -> Collector:
    """Add a collector to /metrics. Usable as a decorator. One that raises is left out of that scrape and counted."""
    _collectors[_place(collector)] = collector
    return collector


def collectors() -> dict[str, Collector]:
    """Registered collectors by the dotted path of their function."""
    return dict(_collectors)


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
