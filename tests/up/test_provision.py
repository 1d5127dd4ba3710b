"""From the environment to ``Service`` rows, and nothing written when nothing changed."""

from __future__ import annotations

import pytest

from agents.models import Agent
from controlplane.env import read_environment
from controlplane.homeserver import paths
from controlplane.homeserver.paths import LocalHomeserver
from controlplane.options import OPTIONS
from controlplane.provision import provision
from ops.models import AuditEvent, Service
from ops.services.services import service_save

pytestmark = pytest.mark.django_db


@pytest.fixture
def environment(settings, tmp_path):
    """Set Switchboard's environment: ``environment(LETTA_BASE_URL="http://…")``."""

    def set_to(**values: str) -> None:
        read = read_environment(OPTIONS, base_dir=tmp_path, environment={"DATA_DIR": str(tmp_path), **values})
        settings.ENVIRONMENT = read
        settings.DATA_DIR = tmp_path
        for name in ("MATRIX_HOMESERVER_URL", "MATRIX_SERVER_NAME", "MATRIX_AS_TOKEN", "MATRIX_HS_TOKEN"):
            setattr(settings, name, read[name])
        settings.MATRIX_REGISTRATION_SHARED_SECRET = read["MATRIX_REGISTRATION_SHARED_SECRET"]

    set_to()
    return set_to


def enabled() -> list[str]:
    return sorted(Service.objects.filter(enabled=True).values_list("name", flat=True))


def test_without_anything_the_demo_agents_live_here(environment, tmp_path):
    result = provision()
    assert result.changed == ["demo"]
    demo = Service.objects.get()
    assert (demo.kind, demo.managed_by) == ("demo", "environment")
    assert demo.options == {"state_dir": str(tmp_path / "demo")}


def test_a_second_time_writes_nothing(environment, django_assert_num_queries):
    environment(
        LETTA_BASE_URL="http://127.0.0.1:8283", LETTA_TOKEN="letta-token-1",
        OPENAI_BASE_URL="http://127.0.0.1:9/v1", OPENAI_MODELS="a, b*",
        ANTHROPIC_API_KEY="anthropic-key-1", MATRIX_HOMESERVER_URL="http://127.0.0.1:8448", DEMO_AGENTS="true",
    )  # fmt: skip
    assert provision().changed == ["anthropic", "demo", "homeserver", "letta", "openai"]
    rows = list(Service.objects.order_by("pk").values())
    events = AuditEvent.objects.count()
    assert provision().changed == []
    assert list(Service.objects.order_by("pk").values()) == rows
    assert AuditEvent.objects.count() == events


def test_values_arrive_where_the_adapters_look(environment):
    environment(
        LETTA_API_URL="http://127.0.0.1:8283/", LETTA_TOKEN="letta-token-1",
        OPENAI_BASE_URL="http://127.0.0.1:9/v1", OPENAI_API_KEY="openai-key-1", OPENAI_MODELS="a, b*",
        ANTHROPIC_API_KEY="anthropic-key-1", ANTHROPIC_MODEL="m-1",
    )  # fmt: skip
    provision()
    letta, openai, anthropic = (Service.objects.get(name=name) for name in ("letta", "openai", "anthropic"))
    assert (letta.base_url, letta.credentials) == ("http://127.0.0.1:8283", {"token": "letta-token-1"})
    assert (openai.base_url, openai.credentials) == ("http://127.0.0.1:9/v1", {"api_key": "openai-key-1"})
    assert openai.options == {"models": ["a", "b*"]}
    assert anthropic.credentials == {"api_key": "anthropic-key-1"}
    assert anthropic.options == {"model": "m-1"}


def test_the_demo_goes_when_a_backend_comes_and_returns_when_asked(environment):
    provision()
    environment(LETTA_BASE_URL="http://127.0.0.1:8283")
    provision()
    assert enabled() == ["letta"]
    assert Service.objects.filter(name="demo").exists(), "switched off, not deleted"
    environment(LETTA_BASE_URL="http://127.0.0.1:8283", DEMO_AGENTS="true")
    assert provision().changed == ["demo"]
    assert enabled() == ["demo", "letta"]
    assert "switched_off_by_environment" not in Service.objects.get(name="demo").options


def test_a_demo_that_an_operator_switched_off_stays_off(environment):
    provision()
    demo = Service.objects.get(name="demo")
    service_save(
        actor="person:a", name="demo", kind="demo", options=demo.options, enabled=False, managed_by="environment"
    )
    assert provision().changed == []
    assert enabled() == []


def test_an_operators_backend_ends_the_demo_too(environment):
    provision()
    service_save(actor="person:a", name="mine", kind="letta", base_url="http://127.0.0.1:1")
    provision()
    assert enabled() == ["mine"]


def test_a_key_for_agents_that_nobody_defined_leaves_the_demo(environment):
    environment(ANTHROPIC_API_KEY="anthropic-key-1")
    provision()
    assert enabled() == ["anthropic", "demo"]
    anthropic = Service.objects.get(name="anthropic")
    Agent.objects.create(service=anthropic, external_id="x", name="X", definition={"system": "Be brief."})
    provision()
    assert enabled() == ["anthropic"]


def test_an_operators_service_of_the_same_name_is_left_alone(environment):
    service_save(actor="person:a", name="letta", kind="letta", base_url="http://127.0.0.1:1")
    environment(LETTA_BASE_URL="http://127.0.0.1:8283")
    result = provision()
    assert Service.objects.get(name="letta").base_url == "http://127.0.0.1:1"
    assert any("managed by an operator" in note for note in result.notes)


def test_an_openai_key_alone_makes_no_agent_of_every_model(environment):
    environment(OPENAI_API_KEY="openai-key-1")
    result = provision()
    assert enabled() == ["demo"]
    assert any("OPENAI_MODELS" in note for note in result.notes)


def test_a_value_that_cannot_be_used_leaves_the_row(environment):
    environment(LETTA_BASE_URL="http://127.0.0.1:8283")
    provision()
    environment(LETTA_BASE_URL="http://user:pass@127.0.0.1:8283")
    result = provision()
    assert Service.objects.get(name="letta").base_url == "http://127.0.0.1:8283"
    assert len(result.problems) == 1
    assert "pass@" not in result.problems[0]


def test_homeserver_row(environment):
    environment(
        MATRIX_HOMESERVER_URL="http://127.0.0.1:8448", MATRIX_SERVER_NAME="example.org", MATRIX_AS_TOKEN="as-token-1",
        MATRIX_HS_TOKEN="hs-token-1", MATRIX_REGISTRATION_SHARED_SECRET="shared-secret-1",
    )  # fmt: skip
    provision()
    row = Service.objects.get(name="homeserver")
    assert row.base_url == "http://127.0.0.1:8448"
    assert row.credentials == {
        "as_token": "as-token-1", "hs_token": "hs-token-1", "registration_shared_secret": "shared-secret-1"
    }  # fmt: skip
    assert row.options["server_name"] == "example.org"
    assert set(row.options) == {
        "mode", "rooms", "server_name", "sender_localpart", "user_prefix", "appservice_id", "space_name"
    }  # fmt: skip


def test_local_homeserver_is_known_to_every_process(environment, tmp_path):
    local = LocalHomeserver(tmp_path / "synapse", "switchboard.localhost", 8017)
    paths.remember(local)
    provision()
    row = Service.objects.get(name="homeserver")
    assert row.base_url == "http://127.0.0.1:8017"
    assert row.options["local"] is True
    assert row.credentials["registration_shared_secret"] == paths.shared_secret(local)
    # `up --no-homeserver`, then `up` again.
    assert provision(homeserver="off").changed == ["homeserver"]
    assert "homeserver" not in enabled()
    assert provision(homeserver="off").changed == []
    assert provision().changed == ["homeserver"]
    assert "homeserver" in enabled()


def test_moving_to_another_homeserver_is_said(environment, tmp_path):
    paths.remember(LocalHomeserver(tmp_path / "synapse", "switchboard.localhost", 8017))
    provision()
    environment(MATRIX_HOMESERVER_URL="http://127.0.0.1:8448")
    result = provision()
    assert any("move from the local homeserver" in note for note in result.notes)
    assert "local" not in Service.objects.get(name="homeserver").options
