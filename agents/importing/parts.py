"""The parts of this app: mappings, the space, sessions of accounts. Imported when the app is ready."""

from __future__ import annotations

from collections.abc import Sequence

from agents.importing import adopt, identities, space
from agents.importing.formats import identities as identity_format
from agents.importing.formats import mappings as mapping_format
from agents.importing.formats import spaces as space_format
from agents.importing.plan import plan_mappings
from agents.importing.records import Planned, Record
from agents.importing.registry import register_part
from agents.importing.world import World, mapping_facts


def _plan_mappings(records: Sequence[Record], world: World) -> list[Planned]:
    return plan_mappings(records, mapping_facts(world, records))


register_part(
    mapping_format.KIND,
    mapping_format.read,
    _plan_mappings,
    adopt.apply_mapping,
    label="Agents with their accounts and rooms",
    order=10,
    tables=[mapping_format.TABLE],
    ask=adopt.ask,
)
register_part(space_format.KIND, space_format.read, space.plan_spaces, space.apply_space, label="The space", order=20)
register_part(
    identity_format.KIND,
    identity_format.read,
    identities.plan_identities,
    identities.apply_identity,
    label="Sessions of accounts",
    order=30,
    tables=[identity_format.TABLE],
)
