"""What can go wrong with processes and services as such, and how it is mended: checks, repairs, guides and faults."""

from __future__ import annotations

from ops.doctor_services import (  # noqa: F401
    checks_deploy,
    checks_loops,
    checks_processes,
    checks_resources,
    exits,
    faults,
    faults_deploy,
    guides,
    health_probes,
    instances,
    pid_files,
    preflight,
    recheck,
    recycle,
    restart,
    stack,
)
