"""An installation to move over from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.models import Agent
from chat.portagent.plan import Wishes
from chat.services.portagent_import import ImportReport, portagent_import
from ops.findings import Finding
from ops.models import Service
from tests.chat.portagent.fixtures import Portagent, bcrypt_hash

HASH = bcrypt_hash("portagent-1")


@pytest.fixture(autouse=True)
def _folder(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / "var"
    settings.DATA_DIR.mkdir()


@pytest.fixture
def old(tmp_path: Path) -> Portagent:
    return Portagent(tmp_path / "agentx")


@pytest.fixture
def newer(tmp_path: Path) -> Portagent:
    return Portagent(tmp_path / "agentx2", version=2)


@pytest.fixture
def ada(old: Portagent) -> str:
    return old.user(1, "ada", passwordHash=HASH)


@pytest.fixture
def agent(db: Any) -> Agent:
    service = Service.objects.create(name="demo", kind="demo", options={"speed": 0})
    return Agent.objects.create(service=service, external_id="demo-x", name="Xenia")


class Run:
    """An import with all that it told."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.findings: list[Finding] = []
        wishes = Wishes(**{name: options.pop(name) for name in ("match", "operators", "orphans") if name in options})
        self.report: ImportReport = portagent_import(
            path=path, wishes=wishes, on_finding=self.findings.append, actor="test", **options
        )

    def codes(self, least: str = "warning") -> list[str]:
        return [one.code for one in self.findings if least == "info" or one.severity != "info"]

    def counts(self, action: str) -> dict[str, int]:
        return dict(self.report.counts[action])
