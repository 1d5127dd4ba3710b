"""Repairs: what can be mended by a button, and how. Apps register theirs from ``AppConfig.ready``.

A repair is three functions. ``plan`` looks and says what would change, and changes nothing; ``apply`` does it; ``undo`` brings
back what ``plan`` put into its snapshot. ``ops.services.repairs`` runs them; nobody else calls ``apply``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ops.choices import RepairClass
from ops.registry import ServiceField

if TYPE_CHECKING:
    from ops.models import RepairRun


class RepairRefused(Exception):
    """The repair cannot be done as things stand. The text tells the operator why, and what to do instead."""


class RepairFailed(Exception):
    """The repair was tried and failed. The text tells the operator what happened; the engine takes back what was done."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the difference: ``what`` of ``target`` goes from ``before`` to ``after``. Without secrets: they are shown.

    ``target`` is ``kind:id`` or a word; ``before`` None means that it did not exist, ``after`` None that it will be gone.
    """

    target: str
    what: str
    before: Any = None
    after: Any = None

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{target, what, before, after}``."""
        return {"target": self.target, "what": self.what, "before": self.before, "after": self.after}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a repair would do. No changes: there is nothing to do, and nothing is done.

    ``sentence`` says it for people. ``data`` is what ``apply`` needs, ``snapshot`` what ``undo`` needs; both JSON, the snapshot
    is encrypted at rest and may hold secrets.
    """

    sentence: str
    changes: tuple[Change, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    snapshot: dict[str, Any] = field(default_factory=dict)


class RepairWork:
    """What the functions of a repair get in hand.

    ``target`` is "" (everything affected) or one ``kind:id`` or a check's target; ``params`` are the form's values. In ``apply``
    and ``undo``, ``plan`` is what was planned and shown, ``snapshot`` what was kept; ``remember`` adds to it at once, so that what
    is done half way can be taken back after a crash.
    """

    def __init__(
        self,
        *,
        target: str,
        params: Mapping[str, Any],
        actor: str,
        plan: Plan | None = None,
        run: RepairRun | None = None,
        affected: Sequence[str] = (),
        progress: Callable[[int, int, str], None] | None = None,
    ) -> None:
        self.target = target
        self.params = dict(params)
        self.actor = actor
        self._plan = plan
        self.run = run
        # What the open issue names, when the target is everything.
        self.affected = tuple(affected)
        self._progress = progress

    @property
    def plan(self) -> Plan:
        if self._plan is None:
            raise RuntimeError("There is no plan yet: this is only for apply and undo.")
        return self._plan

    @property
    def snapshot(self) -> dict[str, Any]:
        """What was kept for undoing: the plan's snapshot and whatever was remembered."""
        if self.run is not None:
            return dict(self.run.snapshot or {})
        return dict(self.plan.snapshot)

    def remember(self, **facts: Any) -> None:
        """Add to the snapshot, stored at once."""
        if self.run is not None:
            self.run.snapshot = {**(self.run.snapshot or {}), **facts}
            self.run.save(update_fields=["snapshot"])

    def progress(self, done: int, total: int = 0, text: str = "") -> None:
        """Say how far it is, to whoever watches."""
        if self._progress is not None:
            self._progress(done, total, text)


Planner = Callable[[RepairWork], Plan]
Applier = Callable[[RepairWork], "dict[str, Any] | None"]
Undoer = Callable[[RepairWork], None]


@dataclass(frozen=True, slots=True)
class Repair:
    """A registered repair.

    ``repair_class``: A may run unattended, C asks, D wants a typed word. ``button`` is the verb on it. ``fields`` are what its
    form asks for. ``target_kinds`` are kinds of objects on whose pages the button stands (``agent``, ``mapping``, …) while an
    issue names the object. ``explain`` says what it does for those who have not seen its plan. ``long``: it runs as a job.
    ``atomic``: it touches only our database, so a failure is rolled back by the database. ``settles_after``: seconds that the
    check may need to turn green. ``confirm_word(work)`` is what has to be typed for class D.
    """

    id: str
    title: str
    repair_class: RepairClass
    button: str
    explain: str
    plan: Planner
    apply: Applier
    undo: Undoer | None = None
    fields: tuple[ServiceField, ...] = ()
    target_kinds: tuple[str, ...] = ()
    long: bool = False
    atomic: bool = False
    settles_after: float = 0.0
    confirm_word: Callable[[RepairWork], str] | None = None


_repairs: dict[str, Repair] = {}


def register_repair(
    id: str,
    *,
    title: str,
    repair_class: str,
    button: str,
    explain: str,
    plan: Planner,
    apply: Applier,
    undo: Undoer | None = None,
    fields: Sequence[ServiceField] = (),
    target_kinds: Sequence[str] = (),
    long: bool = False,
    atomic: bool = False,
    settles_after: float = 0.0,
    confirm_word: Callable[[RepairWork], str] | None = None,
) -> Repair:
    """Make a repair known; see ``Repair``. ``repair_class`` is A, C or D (G has no functions: it is a guide)."""
    kind = RepairClass(repair_class)
    if kind is RepairClass.GUIDED:
        raise ValueError(f"{id}: a guided repair has no functions; register a guide.")
    if kind is RepairClass.DESTRUCTIVE and (undo is None or confirm_word is None):
        raise ValueError(f"{id}: a destructive repair needs an undo and a word to type.")
    known = _repairs.get(id)
    if known is not None and (known.plan.__module__, known.plan.__qualname__) != (plan.__module__, plan.__qualname__):
        raise ValueError(f"The repair {id!r} is already registered by {known.plan.__module__}.")
    _repairs[id] = Repair(
        id=id,
        title=title,
        repair_class=kind,
        button=button,
        explain=explain,
        plan=plan,
        apply=apply,
        undo=undo,
        fields=tuple(fields),
        target_kinds=tuple(target_kinds),
        long=long,
        atomic=atomic,
        settles_after=settles_after,
        confirm_word=confirm_word,
    )
    return _repairs[id]


def get_repair(id: str) -> Repair | None:
    """The registered repair, or None."""
    return _repairs.get(id)


def all_repairs() -> list[Repair]:
    """All registered repairs, by id."""
    return [_repairs[id] for id in sorted(_repairs)]


def unregister_repair(id: str) -> None:
    """Forget a repair: for tests."""
    _repairs.pop(id, None)
