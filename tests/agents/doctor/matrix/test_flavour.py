"""What a homeserver is and can do: a real Synapse, and one that answers as Tuwunel does."""

from __future__ import annotations

from typing import Any

from agents.services.homeserver_probe import stored_flavour
from ops.doctor.guides import guide_for
from ops.models import Service
from ops.services.services import service_test
from tests.agents.doctor.matrix.conftest import SERVER, House, ask, issue, mend, plan, undo
from tests.agents.doctor.matrix.servers import as_json, serving


def tuwunel(path: str, headers: dict[str, str]) -> Any:
    """As Tuwunel before 1.8: no admin API of Synapse's, named in /versions."""
    if path == "/_matrix/client/versions":
        return as_json({"versions": ["v1.5", "v1.11"], "server": {"name": "Tuwunel", "version": "1.4.0"}})
    if path.startswith("/_matrix/client/v3/account/whoami"):
        return as_json({"user_id": f"@switchboard:{SERVER}"})
    if path.startswith("/_matrix/client/v3/login"):
        return as_json({"flows": [{"type": "m.login.password"}, {"type": "m.login.application_service"}]})
    if path.startswith("/_matrix/client/v3/capabilities"):
        return as_json({"capabilities": {"m.room_versions": {"default": "11", "available": {}}}})
    return as_json({"errcode": "M_UNRECOGNIZED", "error": "Not found"}, 404)


def test_the_first_sight_is_kept_and_survives_a_service_test(house: House) -> None:
    run = ask("matrix.hs_flavour")
    assert run.status == "pass"
    assert run.sentence.startswith("Synapse 1.")
    kept = stored_flavour(house.service)
    assert (kept["name"], kept["room_version"]) == ("synapse", "12")
    can = kept["can"]
    assert all(can[name] for name in ("appservice", "admin_api", "make_users", "sign_in", "spaces", "ping", "devices"))
    assert can["sign_up"] is False
    assert run.evidence["cannot"] == {"sign_up": "It takes no registration tokens."}
    service_test(service=house.service, actor="system")
    again = stored_flavour(house.service)
    assert again.pop("probed_at") > kept.pop("probed_at")
    assert again == kept
    assert house.service.capabilities["reaches_us"] is True


def test_another_homeserver_is_noticed_and_kept_by_the_repair(house: House) -> None:
    ask("matrix.hs_flavour")
    kept = stored_flavour(house.service)
    with serving(tuwunel) as other:
        Service.objects.update(base_url=other.url)
        run = ask("matrix.hs_flavour")
        assert run.status == "fail"
        assert "The homeserver is Tuwunel 1.4.0 now, but Synapse" in run.sentence
        assert run.evidence["differences"][:2] == ["synapse → tuwunel", "admin_api: yes → no"]
        assert run.evidence["cannot"]["admin_api"].endswith("(#admins).")
        assert issue("matrix.hs_flavour") is not None
        whats = {one.what: (one.before, one.after) for one in plan("matrix.detect").plan.changes}
        assert whats["make_users"] == (True, False)
        done = mend("matrix.detect", "homeserver")
        assert done.state == "succeeded"
        assert done.receipt["lookup_of_our_account"] == "not there"
        assert stored_flavour(house.service)["name"] == "tuwunel"
        assert issue("matrix.hs_flavour") is None
        assert mend("matrix.detect").state == "unneeded"
        undo(done)
        assert stored_flavour(house.service) == kept


def test_what_is_set_up_and_not_served_is_a_warning_with_the_reason(house: House) -> None:
    service = house.service
    with serving(tuwunel) as other:
        service.base_url = other.url
        service.credentials = {**service.credentials, "registration_shared_secret": "the-secret-of-the-test"}
        service.save()
        run = ask("matrix.hs_flavour")
    assert run.status == "warn"
    assert "does not register users by a shared secret" in run.sentence
    guide = guide_for("matrix.hs_flavour", "homeserver")
    assert guide is not None
    text = " ".join(f"{step.sentence} {step.snippet}" for step in guide.steps)
    assert "!admin users create-user" in text
    assert "no Synapse admin API" in text
    assert "the-secret-of-the-test" not in text


def test_a_new_version_of_the_same_homeserver_is_no_failure(house: House) -> None:
    ask("matrix.hs_flavour")
    service = house.service
    service.capabilities["flavour"]["version"] = "1.100.0"
    service.save()
    assert ask("matrix.hs_flavour").status == "pass"
    assert stored_flavour(house.service)["version"] != "1.100.0"
