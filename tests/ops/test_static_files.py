"""The collected copy of static files: in front when it is of this release, passed over when not, mended file by file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import RequestFactory

from ops import static_files
from ops.doctor_data import folders


@pytest.fixture
def root(settings: Any, tmp_path: Path) -> Path:
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STATIC_ROOT.mkdir()
    return Path(settings.STATIC_ROOT)


def served(name: str) -> bytes:
    middleware = static_files.StaticMiddleware(lambda request: pytest.fail(f"{request.path} was not found"))
    answer = middleware(RequestFactory().get(f"/static/{name}"))
    assert answer.status_code == 200
    return b"".join(answer)  # type: ignore[arg-type]


def test_the_copy_is_made_whole_and_served(root: Path) -> None:
    own = static_files.own_files()["portal/base.css"].read_bytes()
    assert served("portal/base.css") == own
    assert static_files.collect() > 50
    assert list(static_files.differing()) == []
    (root / "portal/base.css").write_text("body{}")
    assert served("portal/base.css") == b"body{}"
    assert [name for name, _ in static_files.differing()] == ["portal/base.css"]
    assert static_files.collect() == 1
    assert served("portal/base.css") == own


def test_another_releases_copy_is_passed_over(root: Path) -> None:
    static_files.collect()
    (root / "portal/base.css").write_text("old{}")
    (root / static_files.STAMP).write_text('{"release": "another"}')
    assert served("portal/base.css") != b"old{}"
    static_files.collected_forget()
    assert not static_files.stamp()


def test_nothing_beside_the_copy_is_served(root: Path) -> None:
    static_files.collect()
    (root.parent / "secret.txt").write_text("secret")
    middleware = static_files.StaticMiddleware(lambda request: "not here")
    for name in ("../secret.txt", "collected.json", "%2e%2e/secret.txt"):
        assert middleware(RequestFactory().get(f"/static/{name}")) == "not here", name


def test_folders_that_everybody_may_write_are_found_and_closed(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    tmp_path.chmod(0o700)
    assert folders.look() == []
    (tmp_path / "keys").mkdir(mode=0o700)
    (tmp_path / "keys" / "SECRET_KEY").write_text("x")
    (tmp_path / "keys" / "SECRET_KEY").chmod(0o666)
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports").chmod(0o777)
    found = {one.path.name: (one.fatal, one.wanted) for one in folders.look()}
    assert found == {"exports": (False, 0o700), "SECRET_KEY": (False, 0o600)}


def test_a_folder_that_cannot_be_written_is_the_worst(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATA_DIR = tmp_path
    (tmp_path / "attachments").mkdir(mode=0o700)
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports").chmod(0o777)
    monkeypatch.setattr(folders, "_try", lambda folder: "Permission denied" if folder.name == "attachments" else "")
    first, second = folders.look()
    assert (first.path.name, first.fatal, second.path.name) == ("attachments", True, "exports")
    outcome = folders.denied()
    assert outcome.status == "fail"
    assert f"owner {first.owner}:{first.group}, mode 700" in outcome.sentence
