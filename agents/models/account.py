"""The Matrix user that an agent speaks as."""

from __future__ import annotations

from django.db import models

from ops.secrets import EncryptedJSONField


class AccountWay(models.TextChoices):
    """How we speak as it: by the appservice's identity assertion, or with a session (token) of the account's own."""

    APPSERVICE = "appservice", "Appservice"
    SESSION = "session", "Own session"


class AccountSession(models.TextChoices):
    """What the homeserver last said to the account's own token."""

    NONE = "none", "None yet"
    GOOD = "good", "Accepted"
    REFUSED = "refused", "Refused"
    LOCKED = "locked", "Locked or deactivated"


class Account(models.Model):
    """The Matrix account of an agent. In the appservice's namespace it needs no password and no login.

    An account that the namespace does not cover, and every account in client mode, speaks with a session of its own: ``secrets``
    holds what opens it (``{"password", "access_token", "device_id"}``, each optional), ``session`` what the homeserver last said to
    the token (``session_checked_at``, and ``session_error`` in words), ``session_retry_at`` when a refused one may be tried again.

    ``display_name`` and ``avatar_source`` are what was last written to the homeserver, so that an unchanged pass asks
    nothing. ``registered_at`` is empty until the homeserver has confirmed the account.
    """

    homeserver = models.ForeignKey("ops.Service", on_delete=models.PROTECT, related_name="accounts")
    user_id = models.CharField(max_length=255, unique=True)
    localpart = models.CharField(max_length=255)
    display_name = models.CharField(max_length=255, blank=True)
    avatar_source = models.CharField(max_length=1000, blank=True)
    avatar_mxc = models.CharField(max_length=255, blank=True)
    registered_at = models.DateTimeField(null=True, blank=True)
    way = models.CharField(max_length=10, choices=AccountWay.choices, default=AccountWay.APPSERVICE)
    secrets = EncryptedJSONField(default=dict, blank=True)
    session = models.CharField(max_length=10, choices=AccountSession.choices, default=AccountSession.NONE)
    session_error = models.CharField(max_length=500, blank=True)
    session_checked_at = models.DateTimeField(null=True, blank=True)
    session_retry_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["user_id"]
        indexes = [models.Index(fields=["way", "session_checked_at"], name="account_session")]

    def __str__(self) -> str:
        return self.user_id
