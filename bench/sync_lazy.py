"""``sync.lazy``: thousands of agents addressable on a real Synapse against bare registrations, and how long first contact takes."""

from __future__ import annotations

from bench.measure import percentile, run_inside, spread
from bench.registry import Options
from bench.results import Figure, Report
from tests.peers.install import SYNAPSE
from tests.peers.letta_stub import LettaStub
from tests.peers.switchboard import Stack
from tests.peers.synapse import Synapse


def run(options: Options) -> Report:
    """Blocks of new agents in turns with blocks of bare registrations; then a person joins rooms that nobody has made yet."""
    blocks, block, contacts = options.pick((2, 600, 30), (2, 5_000, 200))
    report = Report("sync.lazy", sizes={"agents": blocks * block, "blocks": blocks, "contacts": contacts})
    report.versions["synapse"] = SYNAPSE.version
    with LettaStub(agents=0) as letta, Synapse() as synapse:
        person = synapse.register_user("person", "a-password-1")
        stack = Stack(
            homeserver_url=synapse.url,
            settings={"LETTA_BASE_URL": letta.url, "MATRIX_INVITE": person.user_id, "MATRIX_ROOMS": "lazy"},
        )
        stack.prepare()
        synapse.use_registration(stack.write_registration())
        synapse.restart()
        with stack.web:
            found = run_inside(
                "sync_lazy", stack.environment, letta=letta.url, blocks=blocks, block=block, contacts=contacts,
                token=person.access_token, pids={"synapse": synapse.pid}, timeout=3600,
            )  # fmt: skip
    rounds = found["rounds"]
    agents = blocks * block
    ours, named, bare = (agents / sum(one[part] for one in rounds) for part in ("addressable", "pass", "bare"))
    report.figures += [
        Figure("agents with account and mapping (floor: bare registrations)", ours, "/s", bare, 0.80, ">="),
        Figure("the same until they bear their names as well", named, "/s"),
        Figure("first contact: joining a room that nobody has made, p95", percentile(found["contacts"], 0.95), "s", target=1.5),
    ]  # fmt: skip
    for who in ("synapse", "self"):
        mine, floor = (sum(one[f"{part}_cpu"][who] for one in rounds) * 1000 / agents for part in ("ours", "bare"))
        name = {"synapse": "Synapse", "self": "sync"}[who]
        report.figures.append(
            Figure(f"processor time of {name} an agent (floor: a bare registration)", mine, "ms", floor)
        )
    report.raw = {"rounds": rounds, "contacts_s": spread(found["contacts"]), "parallel": found["parallel"]}
    return report
