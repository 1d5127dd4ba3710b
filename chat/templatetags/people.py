"""What pages of accounts need to know."""

from __future__ import annotations

from django import template
from django.conf import settings

register = template.Library()


@register.simple_tag
def mail_is_set() -> bool:
    """Whether there is a mail server, so that links reach people by themselves."""
    return bool(getattr(settings, "MAIL", False))
