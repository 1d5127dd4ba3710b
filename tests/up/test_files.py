"""Files that must agree with the code: the configuration page, deployment files, pins, the registration command."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command

from agents.matrix.registration import Registration
from controlplane.config_reference import reference
from controlplane.options import NOT_NEEDED, OPTIONS
from ops.services.services import service_save
from tests.peers.install import SYNAPSE

ROOT = Path(__file__).resolve().parents[2]


def test_configuration_page_is_current():
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert text == reference(), "Run: python manage.py config_reference --write"


def test_configuration_page_names_everything():
    text = reference()
    for name in [*NOT_NEEDED, *(name for option in OPTIONS for name in (option.name, *option.aliases))]:
        assert f"`{name}`" in text


def test_compose_file():
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"postgres", "redis", "migrate", "web", "worker", "beat"}
    assert services["worker"]["command"][:6] == ["celery", "-A", "controlplane", "worker", "-P", "threads"]
    assert services["beat"]["command"] == ["celery", "-A", "controlplane", "beat"]
    for name in ("migrate", "web", "worker", "beat"):
        variables = services[name]["environment"]
        assert variables["DATABASE_URL"].startswith("postgres://")
        assert variables["REDIS_URL"].startswith("redis://")
        assert services[name]["volumes"] == ["data:/data"]
    known = {option.name for option in OPTIONS}
    assert set(services["web"]["environment"]) <= known


def test_example_environment_has_known_names():
    known = {option.name for option in OPTIONS} | {"POSTGRES_PASSWORD"}
    for line in (ROOT / "deploy" / "example.env").read_text().splitlines():
        if line and not line.startswith("#"):
            assert line.partition("=")[0] in known


def test_units():
    units = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
    assert [unit.name for unit in units] == [
        "switchboard-beat.service", "switchboard-web.service", "switchboard-worker@.service"
    ]  # fmt: skip
    for unit in units:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read(unit)
        assert parser["Service"]["ExecStart"].startswith("/opt/switchboard/.venv/bin/")
        assert parser["Install"]["WantedBy"] == "multi-user.target"


def test_tests_and_up_use_the_same_synapse():
    pins = re.findall(r"^matrix-synapse==\S+", (ROOT / "deploy" / "synapse-requirements.txt").read_text(), re.MULTILINE)
    assert pins == [argument for argument in SYNAPSE.arguments if argument.startswith("matrix-synapse")]


def test_make_lists_its_commands():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    for target in ("up", "test", "lint", "types", "contracts", "bench", "clean"):
        assert f"make {target} " in done.stdout


def test_scripts_parse():
    for script in ("scripts/environment.sh", ".ci/run"):
        subprocess.run(["sh", "-n", script], cwd=ROOT, check=True, timeout=10)


@pytest.mark.django_db
def test_registration_from_settings(settings, capsys, tmp_path):
    settings.MATRIX_SERVER_NAME = "example.org"
    settings.MATRIX_APPSERVICE_URL = "http://switchboard:8000"
    call_command("registration")
    parsed = Registration.parse(capsys.readouterr().out)
    assert (parsed.url, parsed.server_name, parsed.hs_token) == (
        "http://switchboard:8000", "example.org", settings.MATRIX_HS_TOKEN
    )  # fmt: skip
    call_command("registration", "--tuwunel")
    assert capsys.readouterr().out.startswith("!admin appservices register\n```yaml\n")
    path = tmp_path / "registration.yaml"
    call_command("registration", "--output", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert settings.MATRIX_AS_TOKEN not in capsys.readouterr().out
    call_command("registration", "--compare", str(path))
    assert "The same" in capsys.readouterr().out
    settings.MATRIX_APPSERVICE_URL = "http://elsewhere:8000"
    with pytest.raises(CommandError, match="The url is 'http://switchboard:8000'"):
        call_command("registration", "--compare", str(path))


@pytest.mark.django_db
def test_registration_prefers_what_the_row_says(settings, capsys):
    settings.MATRIX_SERVER_NAME = "wrong.example"
    service_save(
        actor="a", name="homeserver", kind="homeserver", base_url="http://127.0.0.1:1",
        credentials={"as_token": "row-as-token", "hs_token": "row-hs-token"}, options={"server_name": "right.example"},
    )  # fmt: skip
    call_command("registration")
    parsed = Registration.parse(capsys.readouterr().out)
    assert (parsed.server_name, parsed.as_token) == ("right.example", "row-as-token")


@pytest.mark.django_db
def test_registration_without_a_name(settings):
    settings.MATRIX_SERVER_NAME = ""
    settings.MATRIX_HOMESERVER_URL = ""
    with pytest.raises(CommandError, match="MATRIX_SERVER_NAME"):
        call_command("registration")
