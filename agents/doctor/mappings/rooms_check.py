"""``mapping.room_drift`` and ``mapping.duplicate_rooms``: the room that people use is the one that the mapping names, and the only one."""

from __future__ import annotations

from functools import partial

from agents.doctor.mappings import look as looking
from agents.doctor.mappings.relink import WORDS
from agents.doctor.mappings.sweep import Row, ask_each, evidence_of, next_slice
from ops.checks import service_targets
from ops.registry import Affected, CheckOutcome, Fix, register_check
from ops.words import counted, verb

DRIFT, DUPLICATES = "mapping.room_drift", "mapping.duplicate_rooms"


@register_check(
    DRIFT,
    title="Every mapping names the room that its agent is in",
    tags=["agents", "matrix", "routing"],
    interval=300,
    severity="error",
    timeout=45,
    scope="service",
    targets=partial(service_targets, "homeserver"),
    depends_on=["db.reachable", "homeserver.reachable", "routing.wrong_agent", "mapping.lost"],
    repairs=["mapping.relink"],
)
def room_drift(target: str) -> CheckOutcome:
    """Stored room, address and membership of each agent, 150 mappings a run and then the next ones.

    Operators are no part of it: whether they joined their invitation is their own business.
    """
    found = next_slice(DRIFT, target)
    if found is None:
        return CheckOutcome("skip", "The homeserver was removed.")
    if not found.rows:
        return CheckOutcome("skip", "No agent has a room yet.", evidence_of(found))
    seen = ask_each(found.homeserver, found.rows, looking.look)
    wrong: list[Affected] = []
    unknown = 0
    for row, one in zip(found.rows, seen, strict=True):
        unknown += one.joined is None
        word = looking.drift(row, one)
        if word:
            wrong.append(_affected(row, one, word))
    evidence = evidence_of(found, wrong=len(wrong), accounts_unknown=unknown)
    if wrong or found.unasked:
        first = f" {wrong[0].sentence}" if wrong else ""
        return CheckOutcome(
            "fail",
            f"{counted(len(wrong) + len(found.unasked), 'mapping does', 'mappings do')} not name the room that "
            f"{verb(len(wrong) + len(found.unasked), 'its', 'their')} agent is in: what people write there may "
            f"reach nobody.{first} Relink them.",
            {**evidence, "examples": [one.evidence for one in wrong[:5]]},
            affected=(*wrong, *(Affected(one) for one in found.unasked)),
            fix=Fix("mapping.relink"),
        )
    return CheckOutcome(
        "pass",
        f"{counted(len(found.rows), 'mapping was', 'mappings were')} asked about; room, address and membership agree.",
        evidence,
    )


def _affected(row: Row, seen: looking.Seen, word: str) -> Affected:
    return Affected(
        row.target,
        f"{row.agent_name}: {WORDS[word]}.",
        {
            "agent": row.agent_name,
            "what": word,
            "stored": row.room_id,
            "address": row.alias,
            "address_leads_to": seen.alias_room or None,
            "rooms_of_the_agent": sorted(seen.joined or ())[:20],
        },
    )


@register_check(
    DUPLICATES,
    title="Every agent has one room of its own",
    tags=["agents", "matrix"],
    interval=1800,
    severity="warning",
    timeout=60,
    scope="service",
    targets=partial(service_targets, "homeserver"),
    depends_on=["db.reachable", "homeserver.reachable", DRIFT],
    repairs=["room.dedupe"],
)
def duplicate_rooms(target: str) -> CheckOutcome:
    """Rooms that were made for an agent, that it is in, and that no row of ours names: left over from an earlier loss.

    Chats that people opened with the agent are none, and neither are rooms with a tombstone. Only rooms without a row are
    looked into, so an ordinary run costs one request a mapping.
    """
    found = next_slice(DUPLICATES, target)
    if found is None:
        return CheckOutcome("skip", "The homeserver was removed.")
    if not found.rows:
        return CheckOutcome("skip", "No agent has a room yet.", evidence_of(found))
    seen = ask_each(found.homeserver, found.rows, looking.look)
    wrong: list[Affected] = []
    for row, one in zip(found.rows, seen, strict=True):
        others = looking.other_rooms(one.joined or (), row.room_id)
        spare = looking.own_rooms(found.homeserver, row.user_id, row.agent_name, others) if others else []
        if spare:
            wrong.append(
                Affected(
                    row.target,
                    f"{row.agent_name} has {counted(len(spare) + 1, 'room')} of its own.",
                    {
                        "agent": row.agent_name,
                        "stored": row.room_id,
                        "others": [room.to_dict() for room in spare[:10]],
                    },
                )
            )
    evidence = evidence_of(found, wrong=len(wrong))
    if wrong or found.unasked:
        first = f" {wrong[0].sentence}" if wrong else ""
        return CheckOutcome(
            "warn",
            f"{counted(len(wrong) + len(found.unasked), 'agent has', 'agents have')} more than one room of "
            f"{verb(len(wrong) + len(found.unasked), 'its', 'their')} own, and {verb(len(wrong) + len(found.unasked), 'answers', 'answer')} only in one of them.{first} "
            "Keep the one that people use; the others get a sign that leads there.",
            {**evidence, "examples": [one.evidence for one in wrong[:5]]},
            affected=(*wrong, *(Affected(one) for one in found.unasked)),
            fix=Fix("room.dedupe"),
        )
    return CheckOutcome(
        "pass", f"{counted(len(found.rows), 'agent was', 'agents were')} asked about; each has one room.", evidence
    )
