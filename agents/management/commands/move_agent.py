"""``manage.py move_agent``: the same agent, account, room and conversations; another server answers."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agents.models import Agent
from agents.services.moving import CannotMove, agent_move, agent_release
from ops.models import Service
from ops.terminal import console_of


class Command(BaseCommand):
    """Exit codes: 0 done, 1 refused, 3 usage."""

    help = "Move an agent to another server, without changing its account, its room or its conversations."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("agent", help="Its name, its id on the server, or its number.")
        parser.add_argument("--from", dest="source", default="", metavar="NAME", help="The service it is on now.")
        parser.add_argument("--to", default="", metavar="NAME", help="The service it moves to.")
        parser.add_argument("--id", dest="external_id", default="", help="Its id there; the same one when not given.")
        parser.add_argument(
            "--keep", default="", choices=("own", "theirs"), help="Which room goes on when both have one."
        )
        parser.add_argument("--release", action="store_true", help="Take up again what an agent left behind.")
        parser.add_argument("--json", action="store_true", dest="as_json", help="JSON on standard output.")

    def handle(self, *args: Any, **options: Any) -> None:
        agent = self._agent(options["agent"], options["source"])
        try:
            if options["release"]:
                agent = agent_release(agent=agent, actor="command")
                sentence = f"{agent.name} is taken up again by the next sync, with an account and room of its own."
            else:
                agent = self._move(agent, options)
                sentence = f"{agent.name} is answered by {agent.service.name} now. Its account, room and conversations are the same."
        except CannotMove as error:
            raise CommandError(error.sentence, returncode=1) from error
        if options["as_json"]:
            done = {"agent": agent.pk, "service": agent.service.name, "external_id": agent.external_id}
            self.stdout.write(json.dumps({**done, "sentence": sentence}, indent=2))
        else:
            console_of(self.stdout).print(f"● {sentence}", markup=False)

    def _move(self, agent: Agent, options: dict[str, Any]) -> Agent:
        service = Service.objects.filter(name=options["to"]).first()
        if service is None:
            raise CommandError(f"There is no service named {options['to']!r}. Name one with --to.", returncode=3)
        return agent_move(
            agent=agent,
            service=service,
            external_id=options["external_id"] or agent.external_id,
            actor="command",
            keep=options["keep"],
        )

    def _agent(self, term: str, source: str) -> Agent:
        rows = Agent.objects.select_related("service")
        if source:
            rows = rows.filter(service__name=source)
        found = list(rows.filter(external_id=term)[:2]) or list(rows.filter(name=term)[:2])
        if not found and term.isdecimal():
            found = list(rows.filter(pk=int(term)))
        if len(found) != 1:
            several = "Several agents are" if found else "No agent is"
            raise CommandError(f"{several} called {term!r}. Give its id, and its service with --from.", returncode=3)
        return found[0]
