"""Everything that the doctor of kept data registers: imported once, when the apps are ready."""

from ops.doctor_data import (  # noqa: F401
    corrupt,
    disk,
    fault_corrupt,
    fault_files,
    fault_locked,
    locked,
    logfiles,
    recover,
    retention,
)
