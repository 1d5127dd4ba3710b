"""Which tests prove these entries besides the proof of their faults."""

from __future__ import annotations

from ops.doctor.catalogue import register_proof

_ROOMS, _SYNC = "tests/agents/doctor/mappings/test_rooms.py", "tests/agents/doctor/mappings/test_sync.py"

register_proof("letta.list_truncated", f"{_SYNC}::TestTruncated")
register_proof("mapping.stale", f"{_SYNC}::TestStale")
register_proof("mapping.room_drift", f"{_ROOMS}::TestDrift")
register_proof("mapping.lost", f"{_ROOMS}::TestLost")
register_proof("mapping.duplicate_rooms", f"{_ROOMS}::TestDuplicates")
register_proof("storage.volume_ephemeral", f"{_SYNC}::TestStorage")
register_proof("sync.slow", f"{_SYNC}::TestPace")
register_proof("sync.too_frequent", f"{_SYNC}::TestPace")
register_proof("mapping.import_invalid", "tests/agents/importing/test_doctor.py")
