"""The ground floor's pages in the operator's site."""

from ops.admin import (  # noqa: F401
    alerts,
    audit,
    checks,
    configuration,
    issue_panel,
    issues,
    jobs,
    repairs,
    services,
    tokens,
)
