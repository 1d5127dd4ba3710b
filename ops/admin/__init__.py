"""The ground floor's pages in the operator's site."""

from ops.admin import (  # noqa: F401
    alerts,
    audit,
    backup_destinations,
    backup_keys,
    backups,
    captures,
    checks,
    configuration,
    issue_panel,
    issues,
    jobs,
    log_errors,
    logs,
    releases,
    repairs,
    restores,
    services,
    tokens,
    versions,
)
