"""Everything that the doctor of recovery registers: imported once, when the apps are ready."""

from ops.doctor.catalogue import register_proof
from ops.doctor_recovery import faults, reset, rollback  # noqa: F401

register_proof("recovery.reset", "tests/e2e/test_reset.py::test_everything_is_removed_and_no_room_is_made_twice")
register_proof("recovery.rollback", "tests/ops/test_releases.py::test_back_to_the_release_before_and_forward_again")
