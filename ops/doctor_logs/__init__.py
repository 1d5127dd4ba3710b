"""Logs, debugging and support: entries 86 to 92 of the catalogue, each as a check, its repairs and its fault."""

from __future__ import annotations

from ops.doctor.catalogue import register_proof
from ops.doctor_logs import checks, debug_checks, faults, repairs, signature_repairs  # noqa: F401

_TESTS = "tests/ops/doctor/logs"

register_proof("debug.level", f"{_TESTS}/test_keeper.py::test_a_level_changed_live_is_followed_kept_and_falls_back")
register_proof("debug.explorer", f"{_TESTS}/test_explorer.py::test_every_kind_of_id_opens_its_object")
register_proof(
    "debug.wire",
    f"{_TESTS}/test_wire.py::test_both_kinds_of_clients_are_heard_and_no_secret_is_written",
    f"{_TESTS}/test_wire.py::test_a_capture_ends_by_itself_and_nobody_listens_any_more",
)
register_proof(
    "debug.profile",
    f"{_TESTS}/test_profile.py::test_another_process_is_profiled_without_a_restart",
    f"{_TESTS}/test_profile.py::test_looking_costs_little_and_says_how_much",
)
register_proof("logs.search", f"{_TESTS}/test_pages.py::test_filters_of_page_tail_and_reader_agree")
register_proof("logs.signatures", f"{_TESTS}/test_signatures.py::test_texts_of_the_predecessors_are_known")
register_proof("support.bundle", f"{_TESTS}/test_bundle.py::test_no_configured_secret_is_in_it")
