"""What is written for the local homeserver, and when it is refused."""

from __future__ import annotations

import socket

import pytest
import yaml

from agents.matrix.registration import load
from controlplane.homeserver import configure, install, paths, process
from controlplane.homeserver.errors import HomeserverError
from controlplane.homeserver.paths import LocalHomeserver
from tests.peers.base import free_port


@pytest.fixture
def data(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    settings.MATRIX_SERVER_NAME = ""
    settings.HOST, settings.PORT = "127.0.0.1", 8123
    return tmp_path


@pytest.fixture
def environment(settings):
    """Change what the environment said, for this test."""
    before = dict(settings.ENVIRONMENT.values)
    yield settings.ENVIRONMENT.values.update
    settings.ENVIRONMENT.values = before


def test_name_and_port_are_chosen_once(data, settings, environment):
    wanted = free_port()
    environment({"LOCAL_HOMESERVER_PORT": wanted})
    first = configure.choose()
    assert first.server_name == "switchboard.localhost"
    assert first.port == wanted
    assert not first.settled
    first = configure.settle(first)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first.port))
        taken.listen()
        assert configure.choose() == first, "an address that clients know is not given up"
        assert configure.first_free_port(first.port) != first.port


def test_without_a_wish_it_is_8008(data, settings):
    from controlplane.options import OPTIONS

    assert {option.name: option.default for option in OPTIONS}["LOCAL_HOMESERVER_PORT"] == 8008


def test_the_memory_of_an_earlier_version_is_of_a_port_that_people_know(data):
    (data / "synapse").mkdir()
    (data / "synapse" / "local.json").write_text('{"port": 8017, "server_name": "switchboard.localhost"}\n')
    assert paths.known_local() == LocalHomeserver(data / "synapse", "switchboard.localhost", 8017, settled=True)


def test_the_name_cannot_change(data, settings):
    configure.choose()
    settings.MATRIX_SERVER_NAME = "example.org"
    with pytest.raises(HomeserverError, match="cannot change"):
        configure.choose()


def test_files(data):
    local = LocalHomeserver(data / "synapse", "switchboard.localhost", 8017)
    configure.write(local)
    config = yaml.safe_load(local.config.read_text())
    (listener,) = config["listeners"]
    assert (listener["port"], listener["bind_addresses"]) == (8017, ["127.0.0.1"])
    assert listener["resources"] == [{"names": ["client"], "compress": False}]
    assert config["trusted_key_servers"] == []
    assert config["federation_domain_whitelist"] == []
    assert not any(
        (
            config["report_stats"],
            config["enable_registration"],
            config["url_preview_enabled"],
            config["presence"]["enabled"],
        )
    )
    registration = load(local.registration)
    assert (registration.url, registration.rate_limited) == ("http://127.0.0.1:8123", False)
    assert registration.server_name == "switchboard.localhost"
    secret = paths.shared_secret(local)
    assert secret not in local.config.read_text(), "secrets stand in files of their own"
    for path in local.folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_files_are_written_only_when_they_change(data, settings):
    local = LocalHomeserver(data / "synapse", "switchboard.localhost", 8017)
    configure.write(local)
    before = {path.name: (path.stat().st_mtime_ns, path.read_text()) for path in local.folder.iterdir()}
    configure.write(local)
    assert {path.name: (path.stat().st_mtime_ns, path.read_text()) for path in local.folder.iterdir()} == before
    settings.PORT = 8124
    configure.write(local)
    changed = [path.name for path in local.folder.iterdir() if path.read_text() != before[path.name][1]]
    assert changed == ["registration.yaml"]


@pytest.mark.parametrize(
    ("host", "address"),
    [("0.0.0.0", "http://127.0.0.1:8123"), ("192.0.2.7", "http://192.0.2.7:8123"), ("::1", "http://[::1]:8123")],
)
def test_where_the_homeserver_reaches_us(data, settings, host, address):
    settings.HOST = host
    assert configure.address_for_homeserver() == address


def test_an_address_that_was_set_wins(data, settings, environment):
    environment({"MATRIX_APPSERVICE_URL": "http://10.0.0.5:1"})
    settings.MATRIX_APPSERVICE_URL = "http://10.0.0.5:1"
    assert configure.address_for_homeserver() == "http://10.0.0.5:1"


def test_a_broken_memory_is_none(data):
    (data / "synapse").mkdir()
    (data / "synapse" / "local.json").write_text('{"port": ')
    assert paths.known_local() is None


def test_somebody_elses_process_id_is_left_alone(data):
    """The pid file may name a process that has nothing to do with us."""
    import os

    local = LocalHomeserver(data / "synapse", "switchboard.localhost", 8017)
    local.folder.mkdir()
    local.pid_file.write_text(f"{os.getpid()}\n")
    assert process.stop_stale(local) is None
    assert not local.pid_file.exists()


def test_half_an_installation_is_made_anew(data, environment, monkeypatch):
    environment({"SWITCHBOARD_SYNAPSE_VENV": None})
    folder = install.environment_folder()
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("")
    (folder / "left-over").write_text("")
    assert not install.is_installed(), "there is no stamp"
    ran: list[list[str]] = []

    def run(command, progress):
        ran.append(command)
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        (folder / "bin" / "python").write_text("")

    monkeypatch.setattr(install, "_run", run)
    assert install.ensure_installed() == folder / "bin" / "python"
    assert not (folder / "left-over").exists()
    assert ran[-1][-2:] == ["-r", str(install.requirements_file())]
    assert install.is_installed()
    ran.clear()
    install.ensure_installed()
    assert ran == []
    (folder / ".installed").write_text("python 3.11\nmatrix-synapse==1.0\n")
    assert not install.is_installed(), "another version is wanted"


def test_an_installer_that_fails_says_what_to_do(data, environment, monkeypatch):
    environment({"SWITCHBOARD_SYNAPSE_VENV": None})
    monkeypatch.setattr(install.sys, "executable", "/bin/false")
    with pytest.raises(HomeserverError, match="could not be installed"):
        install.ensure_installed()
    assert not install.is_installed()


def test_a_given_environment_must_be_one(data, environment):
    environment({"SWITCHBOARD_SYNAPSE_VENV": data / "nowhere"})
    with pytest.raises(HomeserverError, match="SWITCHBOARD_SYNAPSE_VENV"):
        install.ensure_installed()
