"""The ground floor's pages in the operator's site."""

from ops.admin import alerts, audit, checks, jobs, services, tokens  # noqa: F401
