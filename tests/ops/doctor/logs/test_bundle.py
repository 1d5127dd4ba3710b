"""Support bundles: complete, understandable, and without one secret of this installation."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from django.conf import settings
from django.utils import timezone

from ops.models import Job, LogLine, Process, Service
from ops.redaction import add_secret
from ops.support import bundle as bundles
from ops.support import folder
from ops.support.bundle import BundleUnsafe, BundleWish, Part, make, self_test

SECRETS = ("zebra-crossing-0815", "matrix-token-of-the-test-77", "dsn-password-4711x")


@pytest.fixture
def installation(db, data_dir):
    """One with secrets in every place where they may come to lie."""
    Service.objects.create(
        name="letta",
        kind="letta",
        base_url=f"http://user:{SECRETS[2]}@letta.test:8283",
        credentials={"token": SECRETS[0], "nested": {"password": SECRETS[1]}},
        options={"api_key": "inline-key-of-options"},
        status_sentence=f"It said: Bearer {SECRETS[0]}",
    )
    # Kept before anybody knew that it is a secret.
    LogLine.objects.create(
        at=timezone.now(), level="error", role="worker", process="h:1:1", logger="x", event=f"refused {SECRETS[0]}",
        extra={"header": SECRETS[1]}, trace=f"RuntimeError: {SECRETS[0]}",
    )  # fmt: skip
    Job.objects.create(kind="x", title=f"job {SECRETS[0]}", error=SECRETS[1], actor="test")
    now = timezone.now()
    Process.objects.create(
        name="h:1:1", role="worker", host="h", pid=1, started_at=now, seen_at=now, end_reason=f"died of {SECRETS[0]}"
    )


def zipped(wish=None):
    content = make(wish).to_zip()
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name.partition("/")[2]: file.read(name).decode() for name in file.namelist()}


def test_no_configured_secret_is_in_it(installation):
    from controlplane.options import OPTIONS

    known = [*SECRETS, "inline-key-of-options"]
    for option in OPTIONS:
        value = settings.ENVIRONMENT[option.name] if option.secret else ""
        known += [one for one in (value if isinstance(value, list) else [value]) if one and len(one) > 5]
    assert len(known) > 6
    files = zipped()
    for name, text in files.items():
        for secret in known:
            assert secret not in text, name


def test_everything_asked_for_is_in_it(installation):
    files = zipped()
    assert {
        "README.txt", "versions.json", "doctor.json", "processes.json", "errors.txt", "settings.json", "services.json",
        "migrations.txt", "jobs.json", "agents/mappings.json", "agents/syncs.json", "chat/traces.json", "chat/failures.json",
    } <= set(files)  # fmt: skip
    assert [name for name in files if name.startswith("logs/")]
    assert not [name for name in files if name.startswith("failed/")], files
    assert "[X] ops.0003_doctor" in files["migrations.txt"]
    values = {one["name"]: one for one in json.loads(files["settings.json"])}
    assert values["SECRET_KEY"]["value"] == "set"
    assert values["PORT"]["value"].isdigit()
    assert json.loads(files["services.json"])[0]["credentials_set"] == ["nested", "token"]
    assert "refused [hidden]" in next(text for name, text in files.items() if name.startswith("logs/"))
    for name, text in files.items():
        assert name == "README.txt" or name in files["README.txt"]
        if name.endswith(".json"):
            json.loads(text)


def test_messages_are_in_it_only_when_asked_for(installation, world_of_words):
    number = world_of_words
    plain = json.loads(zipped(BundleWish((number,)))["chat/traces.json"])
    assert plain[0]["message"] == number
    assert plain[0]["hops"]
    assert "text" not in plain[0]
    assert "the words of Ada" not in json.dumps(zipped(BundleWish((number,))))
    full = json.loads(zipped(BundleWish((number, 10**9), texts=True))["chat/traces.json"])
    assert full[0]["text"] == "the words of Ada"
    assert full[1]["missing"]


@pytest.fixture
def world_of_words(db):
    from chat.models import Conversation, Message, Participant

    conversation = Conversation.objects.create(next_seq=2)
    sender = Participant.objects.create(conversation=conversation, kind="guest", external_id="@ada:hs", name="Ada")
    now = timezone.now()
    return Message.objects.create(
        conversation=conversation, seq=1, sender=sender, role="user", text="the words of Ada", transport="api",
        received_at=now, stored_at=now,
    ).pk  # fmt: skip


def test_a_part_that_fails_says_so_and_costs_no_other(installation):
    def broken(wish):
        raise RuntimeError(f"cannot read {SECRETS[0]}")

    made = make(also=(Part("broken.json", "A part.", broken),))
    assert "broken.json" in made.failed
    assert SECRETS[0] not in made.files["failed/broken.json.txt"]
    assert "versions.json" in made.files
    assert "broken.json" in made.files["README.txt"]


def test_what_would_leak_is_not_given_out(installation, monkeypatch):
    monkeypatch.setattr(bundles, "redact_text", lambda text: text)
    monkeypatch.setattr(bundles, "redact", lambda value: value)
    monkeypatch.setattr(bundles, "hide_known", lambda text: text)
    with pytest.raises(BundleUnsafe, match=r"jobs\.json"):
        make().to_zip()
    assert self_test().leaks


def test_the_self_test_leaves_nothing_behind(installation):
    from ops import redaction

    add_secret(SECRETS[0])
    result = self_test()
    assert (result.leaks, result.failed) == ([], {})
    assert result.size > 500
    assert not any(one.startswith("canary") for one in redaction._secrets)
    assert SECRETS[0] in redaction._secrets
    assert folder.kept() == []


def test_files_are_ours_alone_and_the_oldest_go(data_dir):
    for number in range(14):
        folder.keep(f"a-{number:02}.zip", b"x")
    assert len(folder.kept()) == folder.KEPT_FILES
    assert folder.folder().stat().st_mode & 0o777 == 0o700
    assert all(folder.path_of(one.name).stat().st_mode & 0o777 == 0o600 for one in folder.kept())
    for name in ("../a.zip", "/etc/passwd", ".hidden.zip", "a b.zip", "x.exe", ""):
        assert folder.path_of(name) is None
