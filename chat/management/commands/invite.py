"""``manage.py invite``: invitations from the terminal."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone
from rich.table import Table

from agents.models import Agent
from chat.api.desk_render import invite_dict
from chat.invite_words import invites_in, true_state
from chat.management.desk import ACTOR, DeskCommand
from chat.models import Invite, PersonRole
from chat.services.invites import (
    invite_check,
    invite_create,
    invite_extend,
    invite_revoke,
    invite_unrevoke,
    link_of,
)
from ops.choices import Lamp
from ops.html import relative
from ops.terminal import console_of, lamp_text

_LISTED = 500


class Command(DeskCommand):
    """Exit codes: 0 done, 1 the code does not count (check), 3 usage."""

    help = "Makes, lists, checks, extends and revokes invitations to the portal."
    # Settings only: those of the code need every page and a second; `check`, `migrate` and every start have them.
    requires_system_checks: list[str] = ["switchboard"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["create", "list", "check", "extend", "revoke", "bring-back"])
        parser.add_argument(
            "what",
            nargs="?",
            default="",
            metavar="ID|CODE",
            help="Number of an invitation; for check: its code or link.",
        )
        parser.add_argument(
            "--role", choices=PersonRole.values, default=PersonRole.PERSON, help="What it makes of people."
        )
        parser.add_argument("--uses", type=int, default=None, help="How many may join by it (1); 0: any number.")
        parser.add_argument("--days", type=int, default=None, help="For how many days from now (7); 0: no end.")
        parser.add_argument(
            "--agent", action="append", default=[], metavar="NAME|ID", help="Only this agent; may be repeated."
        )
        parser.add_argument("--note", default="", help="For whom it is.")
        parser.add_argument(
            "--state", choices=["open", "used_up", "expired", "revoked"], default="", help="List only these."
        )
        parser.add_argument("--json", action="store_true", dest="as_json", help="The answer as JSON.")

    def _create(self, options: dict[str, Any]) -> None:
        agents = [_agent(name) for name in options["agent"]]
        days = 7 if options["days"] is None else options["days"]
        uses = 1 if options["uses"] is None else options["uses"]
        row, code = invite_create(
            role=options["role"],
            max_uses=uses or None,
            expires_at=timezone.now() + timedelta(days=days) if days else None,
            all_agents=not agents,
            agents=agents,
            note=options["note"],
            actor=ACTOR,
        )
        if options["as_json"]:
            self._json({**invite_dict(row), "code": code, "link": link_of(code)})
            return
        self.stdout.write(f"● Invitation {row.pk}. The code is shown this once; hand over the link or the code.")
        self.stdout.write(f"  {link_of(code)}")
        self.stdout.write(f"  {code}")

    def _list(self, options: dict[str, Any]) -> None:
        rows = invites_in(
            Invite.objects.select_related("created_by").prefetch_related("agents", "used_by"), options["state"]
        ).order_by("-id")[:_LISTED]
        if options["as_json"]:
            self._json([invite_dict(row) for row in rows])
            return
        if not rows:
            self.stdout.write("○ No invitation. To make one: manage.py invite create --note 'for whom'")
            return
        table = Table("No.", "Begins", "State", "Joined", "Expires", "Note", box=None, pad_edge=False)
        for row in rows:
            state = row.state()
            lamp = Lamp.GOOD if state == "open" else Lamp.OFF
            table.add_row(
                str(row.pk), row.hint, lamp_text(lamp, state.replace("_", " ")), f"{row.uses}/{row.max_uses or '∞'}",
                relative(row.expires_at) if row.expires_at else "no end", row.note[:24],
            )  # fmt: skip
        console_of(self.stdout).print(table)

    def _check(self, options: dict[str, Any]) -> None:
        if not options["what"]:
            raise CommandError("Give the code, or the link: manage.py invite check CODE", returncode=3)
        found, reason = invite_check(options["what"].rpartition("#")[2].strip())
        sentence = true_state(found, reason)
        if options["as_json"]:
            self._json(
                {
                    "counts": reason == "ok",
                    "reason": reason,
                    "sentence": sentence,
                    "invite": found.pk if found else None,
                }
            )
        else:
            self.stdout.write(f"{'●' if reason == 'ok' else '▲'} {sentence}")
        if reason != "ok":
            raise SystemExit(1)

    def _extend(self, options: dict[str, Any]) -> None:
        changed: dict[str, Any] = {}
        if options["days"] is not None:
            changed["expires_at"] = timezone.now() + timedelta(days=options["days"]) if options["days"] else None
        if options["uses"] is not None:
            changed["max_uses"] = options["uses"] or None
        if not changed:
            raise CommandError("Give --days, --uses, or both.", returncode=3)
        self._done(invite_extend(invite=_invite(options["what"]), actor=ACTOR, **changed), options)

    def _revoke(self, options: dict[str, Any]) -> None:
        self._done(invite_revoke(invite=_invite(options["what"]), actor=ACTOR), options)

    def _bring_back(self, options: dict[str, Any]) -> None:
        self._done(invite_unrevoke(invite=_invite(options["what"]), actor=ACTOR), options)

    def _done(self, row: Invite, options: dict[str, Any]) -> None:
        if options["as_json"]:
            self._json(invite_dict(row))
        else:
            self.stdout.write(f"● Invitation {row.pk} ({row.hint}…) is {row.state().replace('_', ' ')} now.")


def _invite(text: str) -> Invite:
    row = Invite.objects.filter(pk=int(text)).first() if text.isdigit() and len(text) < 18 else None
    if row is None:
        raise CommandError(
            f"There is no invitation {text or '(give its number)'}; manage.py invite list shows them.", returncode=3
        )
    return row


def _agent(name: str) -> Agent:
    rows = list(Agent.objects.filter(pk=int(name)) if name.isdigit() else Agent.objects.filter(name__iexact=name)[:2])
    if len(rows) != 1:
        raise CommandError(
            f"{'Several agents are' if rows else 'No agent is'} called {name}; give its number.", returncode=3
        )
    return rows[0]
