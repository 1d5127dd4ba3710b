"""Which tests prove these entries besides the proof of their faults."""

from __future__ import annotations

from ops.doctor.catalogue import register_proof

_SILENCE = "tests/chat/doctor/test_silence.py"

register_proof("agent.silent", f"{_SILENCE}::TestEachHop", f"{_SILENCE}::TestOtherChecks")
register_proof("routing.wrong_agent", f"{_SILENCE}::TestRouting")
register_proof("routing.selftest", "tests/chat/doctor/test_selftest.py")
