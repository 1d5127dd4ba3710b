"""The ground floor's pages in the operator's site."""

from ops.admin import (  # noqa: F401
    alerts,
    audit,
    captures,
    checks,
    configuration,
    issue_panel,
    issues,
    jobs,
    log_errors,
    logs,
    repairs,
    services,
    tokens,
)
