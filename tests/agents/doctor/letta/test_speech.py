"""``letta.client_drift``, ``letta.provider_401`` and ``letta.local_patch_lost``: what Letta says, may use, and is installed as."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from agents.backends.letta.decode import error_from_message
from agents.doctor.letta.drift import compare
from agents.doctor.letta.package import find_site, inspect
from agents.services.troubles import PROVIDER_REFUSED, UNKNOWN_MESSAGE
from ops.doctor.guides import guide_for
from ops.models import CheckState, Sighting
from ops.services.sightings import sighting_count, sightings_reopen, sightings_settle
from tests.agents.doctor.letta.conftest import change, letta_service, outcome
from tests.peers.model_stub import ModelStub

pytestmark = pytest.mark.django_db(transaction=True)
KEY = "sk-right-0123456789abcdefgh"


# letta.client_drift


def test_a_real_letta_has_all_that_the_adapter_uses(letta: Any) -> None:
    letta_service(letta.url, agents=False)
    assert outcome("backend.reachable", "letta").status == "pass"
    run = outcome("letta.client_drift", "letta")
    assert run.status == "pass", (run.sentence, run.evidence)
    assert run.evidence["described"] is True
    document = letta._call("GET", "/openapi.json")
    del document["paths"]["/v1/agents/{agent_id}/messages/stream"]
    document["components"]["schemas"]["AssistantMessage"]["properties"].pop("content")
    document["components"]["schemas"]["LettaStreamingResponse"]["discriminator"]["mapping"]["mood_message"] = "#/x"
    assert compare(document) == {
        "missing_calls": ["POST /v1/agents/{agent_id}/messages/stream"],
        "missing_fields": ["AssistantMessage.content"],
        "unknown_types": ["mood_message"],
    }


def test_unknown_messages_are_counted_and_told(letta_stub: Any) -> None:
    service = letta_service(letta_stub.url)
    assert outcome("letta.client_drift", "letta").status == "pass"
    for _ in range(14):
        sighting_count(service="letta", kind=UNKNOWN_MESSAGE, label="mood_message", sample="fields: mood")
    run = outcome("letta.client_drift", "letta")
    assert run.status == "fail"
    assert "'mood_message' was seen in 14 answers" in run.sentence
    assert run.evidence["seen"][0]["sample"] == "fields: mood"
    assert Sighting.objects.count() == 1
    guide = guide_for("letta.client_drift", "letta")
    assert guide is not None
    assert any("letta[server]==0.16.8" in step.snippet for step in guide.steps)
    rows = sightings_settle(service=service.name, kinds=[UNKNOWN_MESSAGE], actor="test")
    assert outcome("letta.client_drift", "letta").status == "pass"
    # After that the hour's counter begins anew.
    sighting_count(service="letta", kind=UNKNOWN_MESSAGE, label="mood_message")
    assert Sighting.objects.get().count == 1
    assert sightings_reopen(rows=rows, actor="test") == 0
    Sighting.objects.update(last_at=timezone.now() - timedelta(days=2))
    assert outcome("letta.client_drift", "letta").status == "pass"


# letta.provider_401


@pytest.fixture(scope="module")
def strict() -> Iterator[ModelStub]:
    with ModelStub(arguments=["--key", KEY]) as stub:
        yield stub


def refused(service: str) -> None:
    error = error_from_message({"error_type": "llm_authentication", "message": "Authentication failed"}, "POST …", ())
    sighting_count(service=service, kind=PROVIDER_REFUSED, sample=error.reason)


def test_a_real_letta_with_models_is_well(letta: Any) -> None:
    letta_service(letta.url, agents=False)
    run = outcome("letta.provider_401", "letta")
    assert run.status == "pass", run.sentence
    assert run.evidence["models"] >= 2
    assert run.evidence["variable"] == "OPENAI_API_KEY is set"


def test_a_good_key_that_letta_has_not_got(letta: Any, strict: ModelStub) -> None:
    credentials, options = {"provider_key": KEY}, {"provider_url": strict.base_url}
    letta_service(letta.url, agents=False, credentials=credentials, options=options)
    refused("letta")
    run = outcome("letta.provider_401", "letta")
    assert (run.status, run.evidence["direct"], run.evidence["shown_as"]) == ("fail", "ok", "sk-r…efgh")
    assert "is good: Letta does not have it" in run.sentence
    assert KEY not in str(run.evidence) + run.sentence
    # Nothing here may restart this Letta, so the guide says what to do.
    assert run.fix is None
    guide = guide_for("letta.provider_401", "letta")
    assert guide is not None
    text = str(guide.to_dict())
    assert f"OPENAI_BASE_URL={strict.base_url}" in text
    assert KEY not in text
    # A restart overtakes what was counted before it: the process is younger than the refusal.
    Sighting.objects.update(last_at=timezone.now() - timedelta(hours=5))
    assert outcome("letta.provider_401", "letta").status == "pass"


def test_a_key_that_the_provider_refuses_too(letta: Any, strict: ModelStub) -> None:
    wrong = "sk-wrong-0123456789abcdefgh"
    options = {"provider_url": strict.base_url}
    letta_service(letta.url, agents=False, credentials={"provider_key": wrong}, options=options)
    refused("letta")
    run = outcome("letta.provider_401", "letta")
    assert (run.status, run.evidence["direct"]) == ("fail", "refused")
    assert run.fix is not None
    assert (run.fix.repair, run.fix.params) == ("config.edit", {"field": "credentials.provider_key"})


def test_without_a_key_to_compare_it_says_so(letta: Any) -> None:
    letta_service(letta.url, agents=False)
    refused("letta")
    run = outcome("letta.provider_401", "letta")
    assert run.status == "fail"
    assert "has no good key" in run.sentence


# letta.local_patch_lost


def install(folder: Path, version: str, files: dict[str, str]) -> Path:
    """A package named letta as pip leaves it: files and their hashes in RECORD."""
    site = folder / "lib" / "python3.11" / "site-packages"
    for old in site.glob("letta-*.dist-info/RECORD"):
        old.unlink()
    lines = []
    for name, text in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(text)}")
    info = site / f"letta-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    lines += ["letta/__pycache__/x.pyc,,", f"letta-{version}.dist-info/RECORD,,"]
    (info / "RECORD").write_text("\n".join(lines) + "\n")
    return site


FILES = {"letta/__init__.py": "", "letta/orm/message.py": "x = 1\n", "letta/orm/b.py": "y = 2\n"}


def test_a_patch_is_found_and_remembered_after_the_upgrade(letta_stub: Any, tmp_path: Path) -> None:
    check = "letta.local_patch_lost"
    site = install(tmp_path, "0.16.8", FILES)
    letta_service(letta_stub.url, options={"package_path": str(tmp_path)})
    clean = outcome(check, "letta")
    assert (clean.status, clean.evidence["checked"]) == ("pass", 3)

    (site / "letta/orm/message.py").write_text("x = 2  # patched\n")
    (site / "letta/orm/b.py").unlink()
    run = outcome(check, "letta")
    assert run.status == "warn"
    assert run.evidence["changed"] == ["letta/orm/message.py"]
    assert run.evidence["missing"] == ["letta/orm/b.py"]
    guide = guide_for(check, "letta")
    assert guide is not None
    snippets = [step.snippet for step in guide.steps]
    assert f"diff -u /tmp/letta-0.16.8/letta/orm/message.py {site}/letta/orm/message.py" in snippets
    assert any(snippet.endswith("--force-reinstall --no-deps letta==0.16.8") for snippet in snippets)
    assert any(f"{tmp_path}/bin/python -m pip download" in snippet for snippet in snippets)

    install(tmp_path, "0.16.9", FILES)
    run = outcome(check, "letta")
    assert run.status == "warn"
    assert run.evidence["lost"]["files"] == ["letta/orm/message.py"]
    assert "went from 0.16.8 to 0.16.9" in run.sentence
    assert outcome(check, "letta").status == "warn"
    state = CheckState.objects.get(check_id=check)
    state.evidence["lost"]["at"] = (timezone.now() - timedelta(days=8)).isoformat()
    state.save()
    assert outcome(check, "letta").status == "pass"


def test_the_real_package_is_found_by_its_process_and_clean(letta: Any) -> None:
    service = letta_service(letta.url, agents=False)
    site, why = find_site(service)
    assert site is not None, why
    state = inspect(site)
    assert state is not None
    assert (state.version, state.changed) == ("0.16.8", ())
    assert state.checked > 500
    assert outcome("letta.local_patch_lost", "letta").status == "pass"


def test_where_it_is_not_known_the_check_says_why(letta_stub: Any) -> None:
    service = letta_service(letta_stub.url)
    run = outcome("letta.local_patch_lost", "letta")
    assert run.status == "skip"
    assert "no package 'letta'" in run.sentence or "does not say" in run.sentence
    change(service, options={"package_path": "/nowhere"})
    assert "/nowhere" in outcome("letta.local_patch_lost", "letta").sentence
