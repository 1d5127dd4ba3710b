"""``manage.py say AGENT TEXT``: say something to an agent and watch its answer, through the whole path."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.table import Table

from chat.models import Delivery, DeliveryState, Person, Turn, TurnState
from chat.queries import find_agents
from chat.services.messages import CannotSend, Sent, message_send
from chat.services.turns import turn_cancel
from chat.trace import trace
from ops.choices import Lamp
from ops.models import Heartbeat
from ops.quiet import Quiet
from ops.terminal import console_of, lamp_text

POLL = 0.1
OPEN = {TurnState.QUEUED, TurnState.RUNNING, TurnState.WAITING_APPROVAL}


class Command(BaseCommand):
    """Exit codes: 0 answered, 1 not answered, 3 usage."""

    help = "Say something to an agent, and stream its answer into the terminal."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("agent", help="The agent's name, id or Matrix id.")
        parser.add_argument("text", nargs="+", help="What to say.")
        parser.add_argument("--trace", action="store_true", help="Show the message's way, hop by hop.")
        parser.add_argument("--as", dest="username", default="", metavar="USERNAME", help="Say it as this person.")
        parser.add_argument("--timeout", type=float, default=300.0, help="Seconds to wait for the answer.")

    def handle(self, *args: Any, **options: Any) -> None:
        agent = self._agent(options["agent"])
        person = self._person(options["username"])
        try:
            sent = message_send(agent=agent, text=" ".join(options["text"]), person=person, transport="command")
        except (CannotSend, Quiet) as error:
            raise CommandError(error.sentence) from error
        if sent.turn is None:
            raise CommandError(f"The message is kept but not answered ({sent.message.guard}).")
        state = self._follow(sent, options["timeout"])
        if options["trace"]:
            self._print_trace(sent)
        if state != TurnState.DONE:
            sys.exit(1)

    def _agent(self, name: str) -> Any:
        found = find_agents(name)
        if not found:
            raise CommandError(
                f"There is no agent called {name!r}. See them with: manage.py sync_agents --dry-run", returncode=3
            )
        if len(found) > 1:
            names = ", ".join(f"{agent.name} ({agent.external_id})" for agent in found[:5])
            raise CommandError(f"{name!r} may be any of: {names}. Give the id.", returncode=3)
        return found[0]

    def _person(self, username: str) -> Person | None:
        if not username:
            return None
        person = Person.objects.filter(username=username, is_active=True).first()
        if person is None:
            raise CommandError(f"There is no active person called {username!r}.", returncode=3)
        return person

    def _follow(self, sent: Sent, timeout: float) -> str:
        assert sent.turn is not None
        deadline, shown, warned = time.monotonic() + timeout, 0, False
        started = time.monotonic()
        try:
            while True:
                turn = Turn.objects.select_related("reply", "agent").get(pk=sent.turn.pk)
                text = turn.reply.text if turn.reply else turn.partial
                if turn.state in OPEN and shown and not text.startswith(text[:shown]):
                    shown = 0
                if len(text) > shown:
                    self.stdout.write(text[shown:], ending="")
                    self.stdout.flush()
                    shown = len(text)
                if turn.state not in OPEN:
                    return self._end(turn, shown, deadline)
                if not warned and turn.state == TurnState.QUEUED and time.monotonic() - started > 5:
                    warned = True
                    self._why_waiting(turn)
                if time.monotonic() > deadline:
                    raise CommandError(f"No answer within {timeout:g} s. The message is kept; the turn is {turn.pk}.")
                time.sleep(POLL)
        except KeyboardInterrupt:
            turn_cancel(turn=sent.turn, actor="command")
            self.stderr.write("\nStopping the answer.")
            return TurnState.CANCELLED

    def _end(self, turn: Turn, shown: int, deadline: float) -> str:
        if shown:
            self.stdout.write("")
        if turn.state != TurnState.DONE:
            sentence = turn.error_public or f"The turn is {turn.get_state_display().lower()}."
            self.stderr.write(f"■ {sentence}")
            if turn.error_reason:
                self.stderr.write(f"  Reason: {turn.error_reason}")
        # The answer is complete when the room has it as well.
        while time.monotonic() < deadline:
            waiting = Delivery.objects.filter(turn=turn, state__in=[DeliveryState.QUEUED, DeliveryState.RUNNING])
            if not waiting.exists():
                break
            time.sleep(POLL)
        return turn.state

    def _why_waiting(self, turn: Turn) -> None:
        if turn.agent.paused:
            self.stderr.write(f"○ {turn.agent.name} is paused; the message waits.")
        elif not Heartbeat.objects.filter(seen_at__gt=timezone.now() - timedelta(seconds=40)).exists():
            self.stderr.write("▲ No worker is running, so nobody answers. Start one with: make up")
        elif turn.error_reason:
            self.stderr.write(f"▲ {turn.error_reason} It is tried again.")

    def _print_trace(self, sent: Sent) -> None:
        sent.message.refresh_from_db()
        table = Table("Hop", "At (UTC)", "After", "", box=None, pad_edge=False)
        for hop in trace(sent.message):
            lamp = Lamp(hop.lamp)
            after = f"{hop.after_ms:,.0f} ms" if hop.after_ms is not None else ""
            at = f"{hop.at:%H:%M:%S.%f}"[:-3] if hop.at else "—"
            table.add_row(lamp_text(lamp, hop.label), at, after, hop.note[:60])
        console_of(self.stdout).print(table)
