"""What cannot be installed is told, and what is installed is not installed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import install
from .base import PeerUnavailable
from .fixtures import unavailable


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that an installation would run, in a cache folder of this test's own."""
    run: list[list[str]] = []

    def pretend(command: list[str], what: str, *, seconds: float = 0) -> None:
        run.append(command)
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)

    monkeypatch.setenv("SWITCHBOARD_PEERS_DIR", str(tmp_path))
    monkeypatch.setattr(install, "_run", pretend)
    return run


def test_an_environment_is_made_once_and_again_after_a_change(commands: list[list[str]], tmp_path: Path) -> None:
    recipe = install.Recipe("thing", "1", ("thing==1",))
    folder = install.ensure_environment(recipe)
    assert folder == tmp_path / "thing-1"
    assert commands[-1][-1] == "thing==1"
    assert str(folder / "bin" / "python") in commands[-1]
    assert install.ensure_environment(recipe) == folder
    assert len(commands) == 2
    install.ensure_environment(install.Recipe("thing", "1", ("thing==1", "more")))
    assert commands[-1][-1] == "more"
    assert len(commands) == 4


def test_a_failed_installation_names_the_peer_and_the_reason_and_leaves_no_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWITCHBOARD_PEERS_DIR", str(tmp_path))
    recipe = install.Recipe("thing", "1", ("--no-index", "no-such-package-of-ours"))
    with pytest.raises(PeerUnavailable, match=r"thing 1 cannot be installed[\s\S]*no-such-package-of-ours"):
        install.ensure_environment(recipe)
    assert not (tmp_path / "thing-1" / ".installed").exists()


def test_a_missing_chromium_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "CHROMIUM", tmp_path / "chromium")
    monkeypatch.setattr(install.os, "geteuid", lambda: 1000)
    with pytest.raises(PeerUnavailable, match="apt-get install chromium"):
        install.ensure_chromium()


def test_a_missing_peer_is_skipped_here_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no index"):
        unavailable(PeerUnavailable("no index"))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no index"):
        unavailable(PeerUnavailable("no index"))
