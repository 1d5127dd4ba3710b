"""Everything that alerts register: imported once, when the apps are ready."""

from ops.alerts import checks, faults, listen, mending  # noqa: F401
