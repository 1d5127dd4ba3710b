"""How refusals of the portal look in the API."""

from __future__ import annotations

from chat.access.grants import NotYours
from ops.api.problems import NOT_FOUND, Problem, translate

translate(NotYours, lambda error: Problem(NOT_FOUND, error.sentence))
