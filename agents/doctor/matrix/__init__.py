"""The homeserver, the accounts on it, and the space: checks, repairs, guides and faults. Importing this registers them.

``look`` asks an address, ``reach``/``login``/``flavour`` judge the server, ``accounts``/``senders``/``invites`` those who speak there,
``spaces`` the list of rooms. What writes is in ``agents.services`` (``identities``, ``invitations``, ``spaces``).
"""

from __future__ import annotations

from agents.doctor.matrix import (  # noqa: F401
    account_repairs,
    accounts,
    encryption,
    faults_rooms,
    faults_server,
    flavour,
    guides,
    invites,
    login,
    reach,
    senders,
    space_repairs,
    spaces,
)
from ops.doctor.catalogue import register_proof
from ops.doctor.targets import register_target

register_target("agent", "agents.Agent")
register_target("account", "agents.Account")
register_target("room", "agents.Room")
register_target("service", "ops.Service")

_TESTS = "tests/agents/doctor/matrix"
register_proof(
    "matrix.hs_process_down",
    f"{_TESTS}/test_reach.py::test_a_stopped_process_is_told_from_everything_else_and_starting_it_closes_the_issue",
)
register_proof(
    "matrix.hs_url_wrong", f"{_TESTS}/test_reach.py::test_html_in_front_is_told_and_the_candidate_that_works_is_adopted"
)
register_proof("matrix.hs_unreachable", f"{_TESTS}/test_reach.py::test_each_answer_is_one_checks_matter")
register_proof(
    "matrix.hs_flavour", f"{_TESTS}/test_flavour.py::test_another_homeserver_is_noticed_and_kept_by_the_repair"
)
register_proof(
    "matrix.login_failed",
    f"{_TESTS}/test_login.py::test_a_wrong_token_is_replaced_by_the_one_that_is_accepted",
    f"{_TESTS}/test_login.py::test_our_registration_is_written_again_and_works_after_a_restart",
)
register_proof(
    "matrix.user_missing",
    f"{_TESTS}/test_accounts.py::test_accounts_that_the_homeserver_lost_are_made_again_and_speak",
)
register_proof(
    "matrix.invite_loop", f"{_TESTS}/test_invites.py::test_an_inviter_that_left_the_room_comes_back_and_invites"
)
register_proof("identity.wrong_sender", f"{_TESTS}/test_senders.py::test_a_delivery_that_lost_its_account_is_noticed")
register_proof(
    "identity.token_invalid",
    f"{_TESTS}/test_accounts.py::test_an_account_outside_our_namespace_is_put_right_by_the_agents_id",
)
register_proof("space.lost", f"{_TESTS}/test_spaces.py::test_a_lost_row_is_found_by_its_address_twice_the_same")
register_proof("space.duplicates", f"{_TESTS}/test_spaces.py::test_duplicates_are_merged_and_parted_again")
register_proof(
    "space.rooms_missing", f"{_TESTS}/test_spaces.py::test_rooms_that_are_not_listed_either_way_are_listed_again"
)
