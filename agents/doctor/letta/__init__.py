"""The doctor of Letta servers and model providers: addresses, keys, databases, packages, protocols, quotas."""

from agents.doctor.letta import (  # noqa: F401
    database,
    drift,
    endpoint,
    failover,
    faults,
    faults_keys,
    keys,
    package,
    proofs,
    provider,
    quota,
    set_endpoint,
    sqlite_sql,
)
