"""Accounts on a real Synapse that lost them, and accounts as which it does not let us speak."""

from __future__ import annotations

import httpx
import pytest
from django.utils import timezone

from agents.models import Account, Agent
from agents.services.identities import ask_identity
from ops.doctor.guides import guide_for
from ops.doctor.repairs import RepairRefused
from ops.models import AuditEvent
from tests.agents.doctor.matrix.conftest import SERVER, House, ask, issue, mend, plan, undo


def test_accounts_that_the_homeserver_lost_are_made_again_and_speak(synced: House) -> None:
    assert ask("matrix.user_missing").status == "pass"
    lost = [synced.user_id("Ada"), synced.user_id("Bea")]
    synced.forget_users(*lost)
    assert ask_identity(synced.homeserver, synced.user_id("Cy")).state == "ok"

    run = ask("matrix.user_missing")
    assert run.status == "fail"
    assert set(run.evidence["missing"]) == set(lost)
    agents = dict(Agent.objects.values_list("name", "pk"))
    assert {one.target for one in run.affected} == {f"agent:{agents['Ada']}", f"agent:{agents['Bea']}"}
    # The same cause is one check's matter only.
    assert ask("identity.token_invalid").status == "pass"

    planned = plan("matrix.provision_user")
    assert {one.what for one in planned.plan.changes} == set(lost)
    done = mend("matrix.provision_user")
    assert (done.state, done.receipt["created"], done.receipt["failed"]) == ("succeeded", 2, {})
    assert issue("matrix.user_missing") is None
    for name in ("Ada", "Bea"):
        user_id, room_id = synced.user_id(name), synced.room_id(name)
        assert synced.client.get_profile(user_id).display_name == name
        sent = synced.client.send(room_id, {"msgtype": "m.text", "body": "Here."}, txn_id=f"t{name}", user_id=user_id)
        assert synced.client.get_event(room_id, sent, user_id)["sender"] == user_id
    assert mend("matrix.provision_user").state == "unneeded"
    assert AuditEvent.objects.filter(action="account.created").count() == 2


def test_one_agent_can_be_made_again_alone(synced: House) -> None:
    rows = {
        name: Account.objects.create(
            homeserver=synced.service, user_id=f"@{synced.prefix}{name}:{SERVER}", localpart=f"{synced.prefix}{name}",
            registered_at=timezone.now(),
        )
        for name in ("one", "two")
    }  # fmt: skip
    done = mend("matrix.provision_user", f"account:{rows['one'].pk}")
    assert done.receipt["created"] == 1
    assert ask_identity(synced.homeserver, rows["one"].user_id).state == "ok"
    run = ask("matrix.user_missing")
    assert [one.target for one in run.affected] == [f"account:{rows['two'].pk}"]
    with pytest.raises(RepairRefused, match="has no account"):
        plan("matrix.provision_user", "agent:999999")


def test_an_account_outside_our_namespace_is_put_right_by_the_agents_id(synced: House) -> None:
    mapping, right = synced.mapping(), synced.user_id()
    Account.objects.filter(pk=mapping.account_id).update(user_id=f"@moved_ada:{SERVER}", localpart="moved_ada")
    run = ask("identity.token_invalid")
    assert run.status == "fail"
    assert run.evidence["refused"] == [{"user_id": f"@moved_ada:{SERVER}", "errcode": "M_FORBIDDEN"}]
    assert [one.target for one in run.affected] == [f"agent:{mapping.agent_id}"]
    assert "namespace" in run.affected[0].sentence
    assert ask("matrix.user_missing").status == "pass"
    assert ask("identity.wrong_sender").status == "pass"

    planned = plan("identity.relogin", f"agent:{mapping.agent_id}")
    assert [(one.before, one.after) for one in planned.plan.changes] == [(f"@moved_ada:{SERVER}", right)]
    done = mend("identity.relogin", f"agent:{mapping.agent_id}")
    assert (done.state, done.receipt["rungs"]) == ("succeeded", {f"@moved_ada:{SERVER}": "renamed"})
    assert synced.user_id() == right
    assert mend("identity.relogin").state == "unneeded"
    undo(done)
    assert synced.user_id() == f"@moved_ada:{SERVER}"


def test_what_only_an_administrator_can_change_is_refused_with_the_guide(synced: House) -> None:
    Account.objects.create(
        homeserver=synced.service, user_id=f"@foreign:{SERVER}", localpart="foreign", registered_at=timezone.now()
    )
    run = ask("identity.token_invalid")
    assert run.status == "fail"
    with pytest.raises(RepairRefused, match="administrator"):
        plan("identity.relogin")
    guide = guide_for("identity.token_invalid", "homeserver")
    assert guide is not None
    text = " ".join(step.snippet for step in guide.steps)
    assert synced.prefix in text
    assert f"@foreign:{SERVER}" in text
    assert synced.synapse.url in text


def test_a_suspended_account_is_found_although_it_is_told_who_it_is(synced: House) -> None:
    user_id, admin = (
        synced.user_id(),
        synced.synapse.register_user(f"root{synced.prefix}", "root-has-a-password", admin=True),
    )

    def suspend(yes: bool) -> None:
        answer = httpx.put(
            f"{synced.synapse.url}/_synapse/admin/v1/suspend/{user_id}",
            headers={"Authorization": f"Bearer {admin.access_token}"}, json={"suspend": yes},
        )  # fmt: skip
        assert answer.status_code == 200

    events = len(synced.client.full_state(synced.room_id(), user_id))
    assert ask("identity.token_invalid").status == "pass"
    suspend(True)
    assert synced.client.whoami(user_id) == user_id
    run = ask("identity.token_invalid")
    assert run.status == "fail"
    assert run.evidence["refused"] == [{"user_id": user_id, "errcode": "M_USER_SUSPENDED"}]
    with pytest.raises(RepairRefused, match="suspended"):
        plan("identity.relogin", f"agent:{synced.mapping().agent_id}")
    assert ask("matrix.user_missing").status == "pass"
    suspend(False)
    assert ask("identity.token_invalid").status == "pass"
    assert len(synced.client.full_state(synced.room_id(), user_id)) == events, "asking changes nothing"


def test_archived_agents_do_not_count(synced: House) -> None:
    Account.objects.filter(mapping__agent__name="Cy").update(user_id=f"@gone_cy:{SERVER}")
    Agent.objects.filter(name="Cy").update(state="archived")
    assert ask("identity.token_invalid").status == "pass"
    assert ask("matrix.user_missing").evidence["total"] == 2


def test_a_homeserver_that_is_gone_makes_no_account_missing(synced: House) -> None:
    from ops.runner import run_checks

    synced.service.__class__.objects.update(base_url="http://127.0.0.1:9")
    runs = {run.check.id: run for run in run_checks(tags=["matrix"])}
    assert runs["matrix.hs_process_down"].status == "fail"
    for id in (
        "matrix.user_missing",
        "identity.token_invalid",
        "identity.wrong_sender",
        "space.lost",
        "matrix.hs_flavour",
    ):
        assert runs[id].status == "blocked", id
        assert runs[id].evidence["blocked_by"] == "matrix.hs_process_down"
    assert runs["homeserver.reachable"].status == "blocked"
    assert synced.service.status == "down"
    assert "refuses connections" in synced.service.status_sentence
