"""Everything that alerts register: imported once, when the apps are ready."""

from ops.alerts import checks, faults, listen, mending  # noqa: F401
from ops.doctor.catalogue import register_proof

register_proof(
    "alerts.health",
    "tests/ops/doctor/alerts/test_telling.py::TestOneIncident",
    "tests/ops/doctor/alerts/test_telling.py::TestNoStorms",
    "tests/ops/doctor/alerts/test_telling.py::TestExactlyOnce",
    "tests/ops/doctor/alerts/test_doctor.py::TestDeadManSwitch",
    "tests/ops/doctor/alerts/test_room.py::test_alerts_come_into_the_room_once_whoever_sends_again",
)
