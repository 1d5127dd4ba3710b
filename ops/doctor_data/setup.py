"""Everything that the doctor of kept data registers: imported once, when the apps are ready."""

from ops.doctor_data import corrupt, fault_corrupt, fault_locked, locked, recover  # noqa: F401
