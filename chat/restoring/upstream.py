"""What the agents' servers still work at for nobody is ended there after a restore or a reset: runs, and tool calls that wait for a word.

After a restore of two lives: answers that the backup knows as open, and those that were under way when the restore began, whose rows go with
it. The latter are noted in the stillness before rows change, and ended after the commit: until then nothing is certain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.db.models import Q, QuerySet

from agents.backends.base import Approval, Approving, Backend
from agents.backends.errors import BackendError
from agents.backends.registry import open_backend
from agents.services.backends import spec_of
from chat.models import OPEN_TURN_STATES, Turn
from chat.restoring.history import RESTORED
from chat.turns import waiting
from chat.turns.places import known_place
from ops.backup.hooks import Reconcile, register_before, register_reconcile
from ops.findings import Finding
from ops.models import RestoreEpoch, Service
from ops.words import counted, verb

STEP = "Answers under way"
MOST = 1000
_WHY = "The answer was stopped."


def note(kinds: tuple[str, ...]) -> dict[str, Any] | None:
    """What is under way at the agents' servers at this moment: ``{"sentence", "work": [see work_of]}``."""
    if "conversations" not in kinds:
        return None
    found = list(work_of(Turn.objects.filter(state__in=OPEN_TURN_STATES)))
    if not found:
        return None
    return {
        "sentence": f"{counted(len(found), 'answer')} {verb(len(found), 'was', 'were')} under way at the agents' servers.",
        "work": found,
    }


def end_upstream(work: Reconcile) -> dict[str, Any] | None:
    """Returns ``{"sentence", "ended"}``; what cannot be ended is said."""
    if "conversations" not in work.kinds:
        return None
    drawn_at = RestoreEpoch.objects.order_by("pk").values_list("at", flat=True).first() or work.now
    known = work_of(Turn.objects.filter(error_code=RESTORED, finished_at__gte=drawn_at, reply=None))
    ended = end_work([*work.extra.get("work", []), *known], say=work.say, progress=work.progress)
    if not ended:
        return None
    return {
        "sentence": f"{counted(ended, 'answer')} that nobody waits for any more {verb(ended, 'was', 'were')} ended at the agents' servers.",
        "ended": ended,
    }


def end_work(
    found: Iterable[dict[str, Any]], *, say: Callable[[Finding], None], progress: Callable[[str], None]
) -> int:
    """End what ``work_of`` found, each once; returns how much of it was ended. What cannot be ended is said."""
    entries = {(one["service"], one["ref"], *one["calls"]): one for one in found}
    ended = 0
    for entry in entries.values():
        service = Service.objects.filter(name=entry["service"], enabled=True).first()
        if service is None:
            continue
        progress(f"Ending what {entry['name']} was at")
        try:
            _end(entry, open_backend(spec_of(service)))
        except BackendError as error:
            sentence = f"{entry['name']} may still be at an answer that nobody waits for: {error.reason[:300]}"
            say(Finding("info", "restore.not_stopped", sentence, entry["name"]))
        else:
            ended += 1
    return ended


def work_of(rows: QuerySet[Turn]) -> Iterator[dict[str, Any]]:
    """``{"service", "agent" (the server's id), "name", "ref" (run), "place" (conversation), "calls" (ids that wait)}`` of turns that are known there."""
    rows = rows.filter(~Q(upstream_ref="") | ~Q(approvals=[])).order_by("pk")
    for turn in rows.select_related("agent__service", "message__sender")[:MOST]:
        own = [one["id"] for one in waiting.last_round(turn.approvals) if not one["foreign"]]
        yield {
            "service": turn.agent.service.name,
            "agent": turn.agent.external_id,
            "name": turn.agent.name,
            "ref": turn.upstream_ref,
            "place": known_place(turn),
            "calls": own,
        }


def _end(entry: dict[str, Any], backend: Backend) -> None:
    """Raises ``BackendError``."""
    if entry["calls"] and isinstance(backend, Approving):
        refusals = [Approval(one, False, _WHY) for one in entry["calls"]]
        backend.refuse_calls(entry["agent"], refusals, entry["place"])
    if entry["ref"]:
        backend.cancel(entry["agent"], entry["ref"], entry["place"])


register_before(STEP, note)
register_reconcile(STEP, end_upstream)
