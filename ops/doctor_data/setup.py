"""Everything that the doctor of kept data registers: imported once, when the apps are ready."""

from ops.doctor.catalogue import register_proof
from ops.doctor_data import (  # noqa: F401
    backup,
    backup_repairs,
    corrupt,
    disk,
    fault_backup,
    fault_corrupt,
    fault_files,
    fault_locked,
    fault_lost_rows,
    folders,
    locked,
    logfiles,
    losses_own,
    lost_key,
    lost_rows,
    lost_rows_repair,
    recover,
    retention,
)

_TESTS = "tests/ops/doctor/data"
register_proof(
    "db.locked",
    f"{_TESTS}/test_locked.py::TestSqlite",
    f"{_TESTS}/test_locked.py::test_on_postgresql_a_blocker_is_named_and_ended",
)
register_proof("db.corrupt", f"{_TESTS}/test_corrupt.py::test_damage_is_found_recovered_kept_and_put_back")
register_proof("disk.low", f"{_TESTS}/test_files.py::TestDisk")
register_proof("logs.oversize", f"{_TESTS}/test_files.py::TestLogs")
register_proof("data.retention", f"{_TESTS}/test_retention.py::TestMessages")
register_proof("backup.stale", "tests/ops/vault/test_doctor.py")
register_proof("recovery.restore", "tests/ops/restore/test_restore.py", "tests/faults/test_restore_kill.py")
