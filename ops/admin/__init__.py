"""The ground floor's pages in the operator's site."""

from ops.admin import alerts, audit, checks, issue_panel, issues, jobs, repairs, services, tokens  # noqa: F401
