"""The appservice's token on a real Synapse: wrong here, or wrong there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.doctor.matrix.login import token_is_accepted
from agents.matrix.registration import load
from ops.doctor.guides import guide_for
from ops.doctor.repairs import RepairRefused
from ops.models import AuditEvent, Issue, Service
from ops.runner import run_checks
from tests.agents.doctor.matrix.conftest import (
    AS_TOKEN,
    HS_TOKEN,
    House,
    ask,
    issue,
    mend,
    plan,
    registration,
    undo,
)
from tests.peers.synapse import Synapse

WRONG = "a-token-that-nobody-knows"


def break_token(house: House, **more: Any) -> None:
    Service.objects.filter(name="homeserver").update(managed_by="operator")
    service = house.service
    service.credentials = {"as_token": WRONG, "hs_token": HS_TOKEN, **more}
    service.save()


def test_a_wrong_token_is_replaced_by_the_one_that_is_accepted(house: House) -> None:
    assert ask("matrix.login_failed").status == "pass"
    break_token(house)
    runs = {run.check.id: run for run in run_checks(tags=["matrix"])}
    run = runs["matrix.login_failed"]
    assert run.status == "fail"
    assert run.evidence["errcode"] == "M_UNKNOWN_TOKEN"
    assert "does not know our token" in run.sentence
    assert [id for id, one in runs.items() if one.status == "fail"] == ["matrix.login_failed"]
    assert runs["homeserver.reachable"].status == "blocked"
    assert house.service.status == "down"

    planned = plan("matrix.renew_token")
    assert [(one.before, one.after) for one in planned.plan.changes] == [("refused", "accepted, from the environment")]
    done = mend("matrix.renew_token", "homeserver")
    assert done.state == "succeeded", done.error
    assert house.service.credentials["as_token"] == AS_TOKEN
    assert issue("matrix.login_failed") is None
    assert mend("matrix.renew_token").state == "unneeded"
    undo(done)
    assert house.service.credentials["as_token"] == WRONG
    assert ask("matrix.login_failed").status == "fail"


def test_no_token_shows_anywhere(house: House, caplog: pytest.LogCaptureFixture) -> None:
    break_token(house)
    ask("matrix.login_failed")
    done = mend("matrix.renew_token")
    shown = json.dumps([done.changes, done.receipt, done.sentence, done.error])
    shown += json.dumps(list(Issue.objects.values("sentence", "evidence")), default=str)
    shown += json.dumps(list(AuditEvent.objects.values("message", "before", "after")), default=str)
    shown += repr(guide_for("matrix.login_failed", "homeserver")) + caplog.text
    for token in (AS_TOKEN, HS_TOKEN, WRONG):
        assert token not in shown


def test_a_registration_file_is_read_again_and_wins_over_the_environment(
    house: House, settings: Any, tmp_path: Path, receiver: Any
) -> None:
    settings.MATRIX_AS_TOKEN = WRONG
    break_token(house)
    Service.objects.update(managed_by="environment")
    file = tmp_path / "installed.yaml"
    file.write_text(registration(receiver.url).to_yaml())
    with pytest.raises(RepairRefused, match="No token that is known here"):
        plan("matrix.renew_token")
    planned = plan("matrix.renew_token", registration_file=str(file))
    whats = {one.what: one.after for one in planned.plan.changes}
    assert whats["managed by"] == "an operator"
    assert mend("matrix.renew_token", registration_file=str(file)).state == "succeeded"
    assert house.service.managed_by == "operator"
    assert token_is_accepted(house.service)
    break_token(house)
    file.write_text("- just\n- a list\n")
    with pytest.raises(RepairRefused, match="must be a YAML mapping"):
        plan("matrix.renew_token", registration_file=str(file))


def test_a_pasted_token_and_the_former_one_are_tried(house: House, settings: Any) -> None:
    settings.MATRIX_AS_TOKEN = WRONG
    break_token(house)
    done = mend("matrix.renew_token", as_token=AS_TOKEN)
    assert (done.state, done.receipt["source"]) == ("succeeded", "what was pasted")
    assert house.service.credentials["former_as_token"] == WRONG
    break_token(house, former_as_token=AS_TOKEN)
    assert mend("matrix.renew_token").receipt["source"] == "the one used before"


def test_our_registration_is_written_again_and_works_after_a_restart(
    house: House, synapse_factory: Callable[..., Synapse], tmp_path: Path, receiver: Any
) -> None:
    """The homeserver has another registration: both tokens differ, and the account."""
    file = tmp_path / "registration.yaml"
    other = registration(
        receiver.url, as_token="other-as-token-1", hs_token="other-hs-token-1", sender_localpart="agent_hub"
    )
    file.write_text(other.to_yaml())
    synapse = synapse_factory(file)
    Service.objects.filter(name="homeserver").update(base_url=synapse.url)
    # With its own token it takes us for its own account.
    service = house.service
    service.credentials = {"as_token": "other-as-token-1", "hs_token": "other-hs-token-1"}
    service.save()
    run = ask("matrix.login_failed")
    assert run.status == "fail"
    assert "belongs to @agent_hub:sb.test, not to @switchboard:sb.test" in run.sentence
    service.credentials = {"as_token": AS_TOKEN, "hs_token": HS_TOKEN}
    service.save()
    assert ask("matrix.login_failed").evidence["errcode"] == "M_UNKNOWN_TOKEN"
    # Its token works, and belongs to another account than ours: it is not taken.
    planned = plan("matrix.renew_token", registration_file=str(file))
    assert [one.what for one in planned.plan.changes] == [f"file {file}"]
    done = mend("matrix.renew_token", registration_file=str(file))
    assert done.state == "unproven", "the homeserver has to be restarted first"
    assert "Restart the homeserver" in done.receipt["next"]
    written = load(file)
    assert (written.as_token, written.hs_token, written.url) == (AS_TOKEN, HS_TOKEN, receiver.url)
    synapse.restart()
    assert ask("matrix.login_failed").status == "pass"
    undo(done)
    assert load(file).as_token == "other-as-token-1"
    synapse.stop()


def test_the_guide_writes_the_file_by_a_command(house: House) -> None:
    guide = guide_for("matrix.login_failed", "homeserver", {"errcode": "M_UNKNOWN_TOKEN"})
    assert guide is not None
    text = "\n".join(step.snippet for step in guide.steps)
    assert "manage.py registration --output /etc/matrix-synapse/switchboard.yaml" in text
    assert "app_service_config_files" in text
    house.service.__class__.objects.update(capabilities={"flavour": {"name": "tuwunel"}})
    tuwunel = guide_for("matrix.login_failed", "homeserver", {})
    assert tuwunel is not None
    assert "registration --tuwunel" in tuwunel.steps[0].snippet
