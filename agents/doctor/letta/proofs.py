"""The tests that prove these entries beside the proof of each fault: real servers, refusals, undoing."""

from __future__ import annotations

from ops.doctor.catalogue import register_proof

_HERE = "tests/agents/doctor/letta"

register_proof(
    "letta.endpoint_wrong",
    f"{_HERE}/test_endpoint.py::test_a_server_that_moved_is_found_adopted_and_left_again",
    f"{_HERE}/test_endpoint.py::test_a_server_without_our_agents_is_not_adopted",
)
register_proof(
    "letta.unreachable", f"{_HERE}/test_endpoint.py::test_a_dead_server_is_unreachable_and_not_a_wrong_address"
)
register_proof(
    "letta.provider_401",
    f"{_HERE}/test_speech.py::test_a_good_key_that_letta_has_not_got",
    f"{_HERE}/test_quota.py::test_a_real_letta_whose_provider_refuses_the_key",
)
register_proof(
    "letta.pg_insert_or_ignore",
    f"{_HERE}/test_database.py::test_a_process_without_the_variable_is_found",
    f"{_HERE}/test_database.py::test_the_signature_in_an_answer_is_recognised",
)
register_proof(
    "letta.local_patch_lost",
    f"{_HERE}/test_speech.py::test_a_patch_is_found_and_remembered_after_the_upgrade",
    f"{_HERE}/test_speech.py::test_the_real_package_is_found_by_its_process_and_clean",
)
register_proof(
    "letta.client_drift",
    f"{_HERE}/test_speech.py::test_a_real_letta_has_all_that_the_adapter_uses",
    "tests/agents/backends/test_letta_reply.py::test_a_message_of_an_unknown_type_is_named_once_and_dropped_by_nobody",
)
register_proof(
    "letta.db_unreachable",
    f"{_HERE}/test_database.py::test_nothing_listens_then_the_address_is_corrected",
    f"{_HERE}/test_database.py::test_the_login_that_everybody_knows_is_warned_of",
)
register_proof("llm.key_missing", f"{_HERE}/test_keys.py::test_a_missing_key_is_told_and_mended")
register_proof("llm.key_invalid", f"{_HERE}/test_keys.py::test_a_refused_key_is_shown_in_part_and_replaced")
register_proof(
    "llm.quota",
    f"{_HERE}/test_quota.py::test_a_rate_limit_is_told_counted_and_overcome_by_the_fallback",
    f"{_HERE}/test_quota.py::test_a_real_letta_gives_its_agent_another_model_and_back",
)
register_proof("llm.slow", "tests/chat/doctor/slow/test_slow.py::test_failover_ends_it_and_undoing_brings_it_back")
