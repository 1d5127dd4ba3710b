"""Celery tasks: ids only, safe to run twice, safe to lose."""

from __future__ import annotations

from celery import shared_task

from chat.wakeup import CATCH_UP, DELIVER, RESET_MAIL, RUN_TURN


@shared_task(name=RUN_TURN, ignore_result=True)
def run_turn(*pks: int) -> None:
    """Run turns and those behind them."""
    from chat.turns.run import run_turns

    run_turns(pks)


@shared_task(name=DELIVER, ignore_result=True)
def deliver(pk: int) -> None:
    """Send a delivery and those behind it."""
    from chat.deliveries.run import run_delivery

    run_delivery(pk)


@shared_task(name="chat.sweep", ignore_result=True)
def sweep() -> None:
    """Free what dead workers held, wake what was forgotten."""
    from chat.turns.sweep import sweep as run

    run()


@shared_task(name=CATCH_UP, ignore_result=True)
def catch_up() -> None:
    """Walk rooms that may have lost events."""
    from chat.matrix.watch import catch_up_rooms

    catch_up_rooms()


@shared_task(name="chat.prune", ignore_result=True)
def prune() -> None:
    """Forget what is old: notes about refused events, expired sessions and tickets, how sockets ended; close operators' looks that are over."""
    from chat.access.tickets import tickets_prune
    from chat.services.impersonation import impersonations_expire
    from chat.services.pruning import prune_refused, prune_sessions
    from chat.socket import statistics

    prune_refused()
    prune_sessions()
    impersonations_expire()
    tickets_prune()
    statistics.prune()


@shared_task(name="chat.prune_portal", ignore_result=True)
def prune_portal() -> None:
    """Forget files that were never sent, contents that nobody needs, exports of yesterday, conversations deleted a month ago."""
    from chat.services.attachments import prune_attachments
    from chat.services.exports import prune_exports
    from chat.services.portal import purge_removed

    purge_removed()
    prune_attachments()
    prune_exports()


@shared_task(name=RESET_MAIL, ignore_result=True)
def reset_mail(pk: int) -> None:
    """See to one request for a new password."""
    from chat.services.reset_mail import reset_mail_send

    reset_mail_send(pk)


@shared_task(name="chat.reset_mails", ignore_result=True)
def reset_mails() -> None:
    """See to the requests that were forgotten."""
    from chat.services.reset_mail import reset_mails_send

    reset_mails_send()
