"""``sync.create``: new agents to account, room and space on a real Synapse, against bare createRoom requests."""

from __future__ import annotations

from bench.measure import median, run_inside, spread
from bench.registry import Options
from bench.results import Figure, Report
from tests.peers.install import SYNAPSE
from tests.peers.letta_stub import LettaStub
from tests.peers.switchboard import Stack
from tests.peers.synapse import Synapse


def run(options: Options) -> Report:
    """Blocks of new agents in turns with blocks of bare rooms; the rate is over all blocks."""
    blocks, block = options.pick((2, 20), (6, 20))
    report = Report("sync.create", sizes={"agents": blocks * block, "blocks": blocks})
    report.versions["synapse"] = SYNAPSE.version
    with LettaStub(agents=0) as letta, Synapse() as synapse:
        person = synapse.register_user("person", "a-password-1")
        stack = Stack(
            homeserver_url=synapse.url, settings={"LETTA_BASE_URL": letta.url, "MATRIX_INVITE": person.user_id}
        )
        stack.prepare()
        synapse.use_registration(stack.write_registration())
        synapse.restart()
        with stack.web:
            found = run_inside(
                "sync_blocks", stack.environment, letta=letta.url, blocks=blocks, block=block, person=person.user_id,
                pids={"synapse": synapse.pid, "web": stack.web.pid},
            )  # fmt: skip
    ours = blocks * block / sum(one["ours"] for one in found["rounds"])
    floor = blocks * block / sum(one["bare"] for one in found["rounds"])
    report.sizes["parallel"] = found["parallel"]
    report.figures.append(
        Figure(
            "agents with account, room and place in the space (floor: bare createRoom)", ours, "/s", floor, 0.85, ">="
        )
    )
    for who in ("synapse", "self", "web"):
        mine, bare = (
            sum(one[f"{part}_cpu"][who] for one in found["rounds"]) * 1000 / (blocks * block)
            for part in ("ours", "bare")
        )
        name = {"synapse": "Synapse", "self": "sync", "web": "web"}[who]
        report.figures.append(Figure(f"processor time of {name} an agent (floor: a bare room)", mine, "ms", bare))
    # The steps run side by side, so these are waiting times, and their sum is more than the time that passed.
    for kind in ("agent.create", "mapping.create", "account.register", "account.profile", "room.create", "space.add"):
        if kind in found["cost"]:
            report.figures.append(Figure(f"median of the step {kind}", median(found["cost"][kind]), "ms"))
    report.raw = {
        "rounds": found["rounds"],
        "steps_ms": {kind: spread(values) for kind, values in found["cost"].items()},
    }
    return report
