"""Sessions that the predecessor's identity bridge kept: those of agents are adopted, people's are only told of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.importing.reach import open_session
from agents.importing.records import Planned, Record, rejected
from agents.importing.work import Done, Task, Work, failed
from agents.importing.world import FoundAccount, World, chunks
from agents.models import Account, AccountSession, AccountWay, ImportAction, ImportChoice


def plan_identities(records: Sequence[Record], world: World) -> list[Planned]:
    """An agent's account gets the session where the appservice may not speak as it; everybody else's is left alone."""
    good = [record for record in records if record.problem is None]
    agents = world.account_agents()
    stored: dict[str, Account] = {}
    for some in chunks(record.fields["user_id"] for record in good):
        rows = Account.objects.filter(user_id__in=some, mapping__isnull=False).select_related("mapping__agent")
        stored.update({row.user_id: row for row in rows})
    ours = {one.fields["user_id"]: "" for one in good if one.fields["user_id"] in {*stored, *agents}}
    found = world.look(ours)
    return [
        rejected(one) if one.problem is not None else _plan(one, stored.get(one.fields["user_id"]), agents, found)
        for one in records
    ]


def _plan(one: Record, row: Account | None, agents: dict[str, str], found: dict[str, FoundAccount]) -> Planned:
    fields = one.fields
    user_id, offers = fields["user_id"], bool(fields["access_token"] or fields["password"])
    planned = Planned(
        one, ImportAction.UNCHANGED, file=_side(user_id, fields["type"], "has a session" if offers else "")
    )
    if row is not None:
        planned.stored = _side(
            user_id, "letta", row.get_session_display() if row.way == AccountWay.SESSION else "appservice"
        )
    if row is None and user_id not in agents:
        planned.code = "identity.person"
        planned.sentence = (
            "No agent speaks as this account. It is not logged in; whoever it belongs to goes on with it as before. Delete the file "
            "when everything is moved: its token still opens the account."
        )
    elif not fields["active"]:
        planned.code, planned.sentence = "identity.inactive", "It was switched off there."
    elif found.get(user_id, FoundAccount("unknown")).state == "ours":
        planned.code, planned.sentence = "identity.covered", "The appservice speaks as it; no session is needed."
    elif row is not None and row.way == AccountWay.SESSION and row.session == AccountSession.GOOD:
        planned.sentence = "Its session is open."
    elif not offers:
        planned.code, planned.sentence = "identity.no_session", "It brings neither a token nor a password."
    else:
        planned.action = ImportAction.CREATE if row is None else ImportAction.UPDATE
        planned.sentence = "Its session is taken over where the appservice may not speak as it."
    planned.sentence = " ".join([planned.sentence, *one.notes])[:1000]
    return planned


def _side(user_id: str, kind: str, session: str) -> dict[str, Any]:
    return {"user_id": user_id, "type": kind, "session": session}


def apply_identity(work: Work, task: Task) -> Done:
    """The session becomes the account's, unless it speaks through the appservice or was opened with its mapping."""
    if task.row.choice == ImportChoice.STORED:
        return Done("kept", "What is here was kept.")
    account = Account.objects.filter(user_id=task.fields["user_id"], mapping__isnull=False).first()
    if account is None:
        return failed("The agent whose account this is was not taken over. Its mapping comes first.")
    target = f"account:{account.pk}"
    if account.way == AccountWay.APPSERVICE:
        return Done("done", "The appservice speaks as it; no session is needed.", target)
    if account.session == AccountSession.GOOD:
        return Done("done", "Its session is open.", target)
    why = open_session(work.homeserver, account, _offer(task.fields), work.actor)
    return failed(why) if why else Done("done", "Its session was taken over.", target)


def _offer(fields: dict[str, Any]) -> dict[str, str]:
    return {name: str(fields[name]) for name in ("access_token", "password") if fields.get(name)}


def sessions_of(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Tokens and passwords by account, for the mappings of the same import."""
    return {str(fields["user_id"]): offer for fields in records if (offer := _offer(fields))}
