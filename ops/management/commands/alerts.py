"""Lists the channels of alerts, and sends tests."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.table import Table

from ops.alerts.transports import label_of
from ops.choices import Lamp
from ops.html import relative
from ops.models import AlertChannel, AlertMessage, AlertState
from ops.secrets import SecretUnreadable
from ops.services.alerts import channel_test
from ops.terminal import console_of, lamp_text


class Command(BaseCommand):
    help = "The channels of alerts: list them, or send a test. Exit code 1 when a test did not arrive."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True, metavar="list|test")
        commands.add_parser("list", help="Channels, how their last message went, and the last messages.")
        test = commands.add_parser("test", help="Send a test to a channel, or to all that are switched on.")
        test.add_argument("name", nargs="?", default="", help="The channel's name.")

    def handle(self, *args: Any, what: str, **options: Any) -> None:
        if what == "test":
            self._test(options["name"])
        else:
            self._list()

    def _test(self, name: str) -> None:
        rows = AlertChannel.objects.filter(name=name) if name else AlertChannel.objects.filter(enabled=True)
        channels = list(rows)
        if not channels:
            raise CommandError(
                f"There is no channel named {name!r}." if name else "There is no channel that is switched on."
            )
        failed = []
        for channel in channels:
            message = channel_test(channel=channel, actor="command")
            if message.state == AlertState.SENT:
                self.stdout.write(f"● {channel.name}: the test was taken.")
            else:
                failed.append(f"{channel.name}: {message.error}")
        if failed:
            raise CommandError("\n".join(f"The test did not arrive. {one}" for one in failed))

    def _list(self) -> None:
        table = Table(box=None, header_style="bold")
        for title in ("", "Channel", "Goes to", "From", "Last sent", "Last error"):
            table.add_column(title)
        for channel in AlertChannel.objects.all():
            lamp = Lamp.OFF if not channel.enabled else Lamp.TROUBLE if channel.last_error else Lamp.GOOD
            table.add_row(
                lamp_text(lamp, "off" if not channel.enabled else ""),
                channel.name,
                _label(channel),
                channel.min_severity,
                relative(channel.last_ok_at) if channel.last_ok_at else "never",
                channel.last_error,
            )
        console = console_of(self.stdout, plain_width=160)
        console.print(table)
        log = Table(box=None, header_style="bold")
        for title in ("", "When", "Channel", "Message", "Note"):
            log.add_column(title)
        for message in AlertMessage.objects.select_related("channel")[:15]:
            state = AlertState(message.state)
            when = relative(message.sent_at or message.created_at)
            log.add_row(lamp_text(state.lamp, state.label), when, message.channel.name, message.title, message.error)
        if log.row_count:
            console.print()
            console.print(log)


def _label(channel: AlertChannel) -> str:
    try:
        return label_of(channel.url)
    except SecretUnreadable:
        return "unreadable"
