"""What follows from what was probed and given, and what a probe makes of servers that answer in this or that manner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agents.matrix.admin.registration import flows_of
from agents.matrix.admin.ways import ABILITIES, at_least, ways_of
from agents.matrix.client import AppserviceClient
from agents.matrix.probe import probe, unsupported
from tests.agents.doctor.matrix.servers import Answer, as_json, serving

UNKNOWN = ({"errcode": "M_UNRECOGNIZED", "error": "Not found"}, 404)
ADMIN = frozenset({"admin_token"})


def flavour(name: str, version: str = "", **parts: Any) -> dict[str, Any]:
    can = {"appservice": True, "admin_api": False, "make_users": False, **parts.pop("can", {})}
    return {"name": name, "version": version, "can": can, "auth": {"kind": "own"}, "registration": {}, **parts}


def works(found: dict[str, Any]) -> set[str]:
    return {name for name, way in found.items() if way.works}


def test_every_ability_has_a_sentence_whatever_is_known() -> None:
    for given in (frozenset[str](), ADMIN, frozenset({"registration_shared_secret", "registration_token"})):
        for one in (flavour("unknown"), flavour("synapse"), flavour("tuwunel", "1.7.1"), {}):
            found = ways_of(one, given)
            assert list(found) == list(ABILITIES)
            assert all(len(way.sentence) > 20 for way in found.values())


@pytest.mark.parametrize(
    ("name", "version", "promotes", "deletes"),
    [
        ("tuwunel", "1.0.0-rc1", False, False),
        ("tuwunel", "1.5.1", True, False),
        ("tuwunel", "1.8.0", True, True),
        ("conduwuit", "0.4.6", False, False),
        ("continuwuity", "26.9.1", False, False),
    ],
)
def test_commands_are_those_of_the_version(name: str, version: str, promotes: bool, deletes: bool) -> None:
    found = ways_of(flavour(name, version), ADMIN)
    assert {"user_create", "password_reset", "user_deactivate", "room_join"} <= works(found)
    assert (found["room_admin"].works, found["room_delete"].works) == (promotes, deletes)
    assert found["password_reset"].dialect == "admin_room"
    assert not found["login_as"].works


def test_a_proxy_that_hides_the_admin_api_is_told_from_a_server_that_has_none() -> None:
    hidden = ways_of(flavour("synapse", "1.163.2"), ADMIN)["password_reset"]
    assert "admin_url" in hidden.sentence
    other = ways_of(flavour("dendrite", "0.15"), ADMIN)["password_reset"]
    assert "Dendrite 0.15 has neither" in other.sentence
    assert "admin_url" not in other.sentence


def test_accounts_are_made_with_what_was_given_the_strongest_first() -> None:
    def way(registration: str, *given: str, **more: Any) -> tuple[str, bool]:
        found = ways_of(flavour("dendrite", registration={"kind": registration}, **more), frozenset(given))
        return found["user_create"].dialect, found["user_create"].works

    assert way("open") == ("open_registration", True)
    assert way("token") == ("none", False)
    assert way("token", "registration_token") == ("registration_token", True)
    assert way("closed", "registration_token") == ("none", False)
    assert way("other", "registration_token") == ("none", False)
    secret = {"can": {"make_users": True}}
    assert way("token", "registration_token", "registration_shared_secret", **secret) == ("shared_secret", True)
    refused = {**secret, "secret": {"works": False, "sentence": "It refuses it."}}
    assert way("token", "registration_token", "registration_shared_secret", **refused) == ("registration_token", True)
    served = {"can": {"admin_api": True}, "admin": {"works": False, "sentence": "Refused."}}
    assert way("open", "admin_token", **served) == ("open_registration", True)


@pytest.mark.parametrize(
    ("stages", "kind"),
    [
        ([["m.login.dummy"]], "open"),
        ([["m.login.registration_token"]], "token"),
        ([["m.login.registration_token", "m.login.dummy"]], "token"),
        ([["m.login.registration_token"], ["m.login.dummy"]], "open"),
        ([["m.login.recaptcha", "m.login.terms"]], "other"),
        ([], "other"),
    ],
)
def test_flows_are_read_as_what_a_program_can_pass(stages: list[list[str]], kind: str) -> None:
    assert flows_of({"flows": [{"stages": one} for one in stages]}).kind == kind


def test_versions_are_compared_by_number() -> None:
    assert at_least("1.10.0", (1, 8, 1))
    assert at_least("26.6.2-rc.1", (26, 6))
    assert not at_least("1.8.0", (1, 8, 1))
    assert not at_least("", (1,))
    assert not at_least("unknown", (1,))


@contextmanager
def probed(answers: dict[str, Any], **options: Any) -> Iterator[dict[str, Any]]:
    """What a probe finds at a server that answers these paths, and 404 to all others."""

    def answer(path: str, headers: dict[str, str]) -> Answer:
        found = answers.get(path.partition("?")[0], UNKNOWN)
        return as_json(*found) if isinstance(found, tuple) else as_json(found)

    with serving(answer) as server:
        client = AppserviceClient(server.url, "as-token", "x.test", sender_localpart="switchboard")
        try:
            yield probe(client, credentials={}, **options)
        finally:
            client.close()


TUWUNEL: dict[str, Any] = {
    "/_matrix/client/versions": {"versions": ["v1.11"], "server": {"name": "tuwunel", "version": "1.8.1"}},
    "/_matrix/client/v3/login": {"flows": [{"type": "m.login.password"}, {"type": "m.login.application_service"}]},
    "/_matrix/client/v1/auth_metadata": {
        "issuer": "https://x.test/",
        "authorization_endpoint": "https://x.test/_tuwunel/oidc/authorize",
    },
    "/_synapse/admin/v1/server_version": {"server_version": "Tuwunel 1.8.1"},
    "/_synapse/admin/v2/users": ({"errcode": "M_MISSING_TOKEN", "error": "Missing access token."}, 401),
}


def test_tuwunel_with_the_admin_api_is_administered_by_it() -> None:
    with probed(TUWUNEL) as found:
        assert (found["name"], found["version"], found["auth"]["kind"]) == ("tuwunel", "1.8.1", "own")
        assert ways_of(found, ADMIN)["password_reset"].dialect == "admin_api"
    # Before 1.8.1, or where a proxy hides it.
    older = {path: said for path, said in TUWUNEL.items() if not path.startswith("/_synapse")}
    with probed(older) as found:
        assert ways_of(found, ADMIN)["password_reset"].dialect == "admin_room"
        assert unsupported(found)["admin_api"].endswith("(#admins).")


@pytest.mark.parametrize(
    "signs",
    [
        {"/_matrix/client/v1/auth_metadata": {"issuer": "https://auth.x.test/"}},
        {"/_matrix/client/unstable/org.matrix.msc2965/auth_metadata": {"issuer": "https://auth.x.test/"}},
        {"/_matrix/client/unstable/org.matrix.msc2965/auth_issuer": {"issuer": "https://auth.x.test/"}},
        {
            "/_matrix/client/v3/login": {
                "flows": [
                    {"type": "m.login.sso", "org.matrix.msc3824.delegated_oidc_compatibility": True},
                    {"type": "m.login.password"},
                ]
            }
        },
    ],
)
def test_an_authentication_service_is_recognised_by_each_of_its_signs(signs: dict[str, Any]) -> None:
    versions = {"/_matrix/client/versions": {"versions": ["v1.11"]}}
    served = {path: TUWUNEL[path] for path in TUWUNEL if path.startswith("/_synapse")}
    with probed({**versions, **served, **signs}) as found:
        assert found["auth"]["kind"] == "mas"
        assert works(ways_of(found, ADMIN)) == {"room_admin", "room_join", "room_delete", "appservice"}


def test_the_admin_api_may_stand_at_an_address_of_its_own() -> None:
    outside = {"/_matrix/client/versions": {"versions": ["v1.11"]}}
    inside = {
        "/_synapse/admin/v1/server_version": {"server_version": "1.163.2"},
        "/_synapse/admin/v2/users": TUWUNEL["/_synapse/admin/v2/users"],
    }

    def answer(path: str, headers: dict[str, str]) -> Answer:
        found = inside.get(path.partition("?")[0], UNKNOWN)
        return as_json(*found) if isinstance(found, tuple) else as_json(found)

    with probed(outside) as found:
        assert found["can"]["admin_api"] is False
    with serving(answer) as other, probed(outside, admin_url=other.url) as found:
        assert (found["name"], found["can"]["admin_api"]) == ("synapse", True)
