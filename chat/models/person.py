"""Somebody who uses Switchboard; an operator is a person with ``is_staff``."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models


class Person(AbstractUser):
    """A person. ``matrix_user_id`` is their own Matrix account, which is invited to the space and its rooms."""

    display_name = models.CharField(max_length=150, blank=True)
    matrix_user_id = models.CharField(max_length=255, blank=True, db_index=True)

    class Meta:
        verbose_name = "person"
        verbose_name_plural = "people"

    def __str__(self) -> str:
        return self.display_name or self.username
