"""Files over the API and at their addresses: what is taken, what becomes of it, who gets it, and how it is sent."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from PIL import Image

from chat.attachments import folder, kinds, names
from chat.models import Attachment
from chat.services.attachments import MOST_UNSENT, prune_attachments
from ops import disk_guard
from tests.api.people import ChatApi, conversation_with, person_named, said
from tests.chat.portal.pictures import PLACE, archive, bomb, moving, picture, pixel, taken_by_phone

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def place(settings, tmp_path):
    settings.ATTACHMENTS_DIR = tmp_path / "attachments"
    return settings.ATTACHMENTS_DIR


@pytest.fixture
def grace(db):
    return person_named("grace")


@pytest.fixture
def chat(grace):
    return ChatApi(grace)


def upload(chat: ChatApi, data: bytes, name: str = "file.bin", status: int = 201, **headers: str) -> dict:
    sent = {"file": SimpleUploadedFile(name, data, content_type="text/html")}
    response = chat.client.post("/api/v1/chat/attachments", sent, headers={**chat.headers, **headers})
    assert response.status_code == status, response.content
    return response.json()


def body(response) -> bytes:
    async def read():
        return b"".join([chunk async for chunk in response])

    return asyncio.run(read())


def contents(place: Path) -> list[Path]:
    return sorted(found for found in place.rglob("*") if found.is_file())


def test_a_picture_comes_out_upright_and_silent(chat, place):
    made = upload(chat, taken_by_phone(), "IMG_1.JPG")
    assert (made["media_type"], made["width"], made["height"], made["name"]) == ("image/jpeg", 20, 40, "IMG_1.JPG")
    stored = contents(place)
    assert len(stored) == 1
    assert stored[0].stat().st_mode & 0o777 == 0o600
    data = stored[0].read_bytes()
    assert PLACE not in data
    with Image.open(io.BytesIO(data)) as image:
        assert not image.getexif()
    # Red was on the left, and is on top now.
    assert pixel(data, 10, 2)[0] > 200 > pixel(data, 10, 38)[0]
    response = chat.client.get(made["url"])
    assert response.status_code == 200
    assert body(response) == data
    assert response.headers["Content-Disposition"].startswith("inline")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")


@pytest.mark.parametrize(
    ("data", "name", "media_type", "kept_as"),
    [
        (picture("PNG"), "a.exe", "image/png", "a.png"),
        (picture("BMP"), "a.bmp", "image/png", "a.png"),
        (picture("TIFF"), "a.tiff", "image/png", "a.png"),
        (picture("WEBP"), "a.webp", "image/webp", "a.webp"),
        (picture("AVIF"), "a.avif", "image/png", "a.png"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "a.svg", "text/plain", "a.svg"),
        (b"<!doctype html><script>alert(1)</script>", "a.png", "text/plain", "a.png"),
        ("Grüße".encode(), "a.md", "text/plain", "a.md"),
        ("Grüße".encode("utf-16"), "a.txt", "text/plain", "a.txt"),
        (b"%PDF-1.7\n%\xe2\xe3\n1 0 obj", "a.pdf", "application/pdf", "a.pdf"),
        (archive(), "a.zip", "application/zip", "a.zip"),
    ],
    ids=["png", "bmp", "tiff", "webp", "avif", "svg", "html", "utf-8", "utf-16", "pdf", "zip"],
)
def test_what_a_file_is_says_its_content(chat, data, name, media_type, kept_as):
    made = upload(chat, data, name)
    assert (made["media_type"], made["name"]) == (media_type, kept_as)
    response = chat.client.get(made["url"])
    shown = response.headers["Content-Disposition"].startswith("inline")
    assert shown == media_type.startswith("image/")
    assert "html" not in response.headers["Content-Type"]
    assert "svg" not in response.headers["Content-Type"]
    body(response)


def test_a_moving_picture_keeps_moving(chat, place):
    upload(chat, moving(), "a.gif")
    data = contents(place)[0].read_bytes()
    assert PLACE not in data
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, "attachment.empty"),
        (b"MZ\x90\x00" + b"\x00" * 500, 415, "attachment.kind"),
        (b"\x7fELF" + b"\x01" * 500, 415, "attachment.kind"),
        (b"text with \x00 inside", 415, "attachment.kind"),
        (b"\xff\xfe\x00", 415, "attachment.kind"),
        (picture("PNG")[:60], 422, "attachment.broken"),
        (b"\x89PNG\r\n\x1a\n" + b"nonsense" * 20, 422, "attachment.broken"),
        (bomb(), 422, "attachment.broken"),
        (bomb(20_000, 10_000), 422, "attachment.broken"),
    ],
    ids=["empty", "exe", "elf", "nul", "half", "cut off", "nonsense", "bomb", "smaller bomb"],
)
def test_what_is_not_taken(chat, place, data, status, code):
    problem = upload(chat, data, "a.png", status)
    assert problem["code"] == code
    assert problem["detail"]
    assert contents(place) == []
    assert not Attachment.objects.exists()


def test_the_size_has_a_limit_that_is_shown(chat, settings, place):
    settings.ATTACHMENT_MAX_MB = 1
    limits = chat("get", "attachments")
    assert limits["max_bytes"] == 1024 * 1024
    assert {kind["media_type"] for kind in limits["kinds"]} == {kind.media_type for kind in kinds.KINDS}
    upload(chat, b"a" * limits["max_bytes"], "a.txt")
    assert upload(chat, b"a" * (limits["max_bytes"] + 1), "a.txt", 413)["code"] == "attachment.too_large"
    assert len(contents(place)) == 1


def test_nobody_fills_the_disk_with_what_is_never_sent(chat, grace):
    made = upload(chat, b"hello", "a.txt")
    Attachment.objects.bulk_create(
        Attachment(owner=grace, name="x", media_type="text/plain", size=1, sha256="0" * 64, path="00/0")
        for _ in range(MOST_UNSENT - 1)
    )
    assert upload(chat, b"hello", "a.txt", 429)["code"] == "attachment.unsent"
    chat("delete", f"attachments/{made['id']}", status=204)
    chat("delete", f"attachments/{made['id']}", status=404)
    upload(chat, b"hello", "a.txt")


def test_a_full_disk_leaves_nothing_half(chat, place, monkeypatch):
    real = os.fsync

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder.os, "fsync", full)
    problem = upload(chat, b"hello", "a.txt", 507)
    assert problem["code"] == "attachment.no_space"
    assert "no room" in problem["detail"]
    assert contents(place) == []
    assert not Attachment.objects.exists()
    monkeypatch.setattr(folder.os, "fsync", real)
    upload(chat, b"hello", "a.txt")


def test_files_wait_while_the_room_is_kept_for_the_database(chat, place, monkeypatch):
    monkeypatch.setattr(disk_guard.shutil, "disk_usage", lambda path: SimpleNamespace(total=10**12, free=10**8, used=0))
    disk_guard.forget()
    problem = upload(chat, b"hello", "a.txt", 507)
    assert problem["code"] == "attachment.no_space"
    assert "too little room" in problem["detail"]
    assert contents(place) == []
    monkeypatch.undo()
    disk_guard.forget()
    upload(chat, b"hello", "a.txt")


def test_the_same_content_lies_there_once_and_goes_with_the_last_row(chat, grace, ada, place):
    first, second = upload(chat, b"same", "a.txt"), upload(chat, b"same", "b.txt")
    assert first["id"] != second["id"]
    assert len(contents(place)) == 1
    membership = conversation_with(grace, ada)
    message = said(membership, "Look")
    Attachment.objects.filter(pk=first["id"]).update(message=message, conversation=membership.conversation)
    Attachment.objects.update(created_at=timezone.now() - timedelta(days=2))
    old = time.time() - 2 * folder.SPARE_SECONDS
    os.utime(contents(place)[0], (old, old))
    assert prune_attachments() == {"unsent": 1, "contents": 0, "parts": 0}
    assert [str(pk) for pk in Attachment.objects.values_list("pk", flat=True)] == [first["id"]]
    message.delete()
    assert prune_attachments()["contents"] == 1
    assert contents(place) == []


def test_the_same_content_that_comes_again_is_not_pruned_away(chat, place):
    """What was just sent again counts as new, even if no row held it."""
    made = upload(chat, b"same", "a.txt")
    old = time.time() - 2 * folder.SPARE_SECONDS
    os.utime(contents(place)[0], (old, old))
    Attachment.objects.all().delete()
    upload(chat, b"same", "b.txt")
    Attachment.objects.all().delete()
    assert prune_attachments()["contents"] == 0
    assert len(contents(place)) == 1
    assert made["size"] == 4


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ada\\secret.txt", "secret.txt"),
        ('a"; filename="b.html', "a_; filename=_b.html"),
        ("line\r\nSet-Cookie: x=1.txt", "lineSet-Cookie_ x=1.txt"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("\u200b\u2066.", "file"),
        ("..", "file"),
        ("  a   b .txt ", "a b .txt"),
        ("Überweisung 日本.pdf", "Überweisung 日本.pdf"),
        ("\udcff.txt", "_.txt"),
        ("x" * 300 + ".txt", "x" * 146 + ".txt"),
    ],
)
def test_names(given, kept):
    assert names.clean_name(given) == kept


def test_a_hostile_name_stays_within_its_header(chat, grace):
    made = upload(chat, b"hello", "a.txt")
    Attachment.objects.update(name='"; x=\r\nSet-Cookie: a=b Übel.html')
    response = chat.client.get(made["url"])
    assert "Set-Cookie" not in response.headers
    assert response.headers["Content-Disposition"].startswith("attachment; filename*=utf-8''")
    body(response)


def test_only_members_get_a_file(chat, grace, ada):
    made = upload(chat, b"hello", "a.txt")
    mallory = ChatApi(person_named("mallory"))
    assert mallory.client.get(made["url"]).status_code == 404
    membership = conversation_with(grace, ada)
    message = said(membership, "Look")
    Attachment.objects.update(message=message, conversation=membership.conversation)
    assert mallory.client.get(made["url"]).status_code == 404
    assert chat.client.get(made["url"]).status_code == 200
    assert ChatApi().client.get(made["url"]).status_code == 401
    assert ChatApi().client.get(made["url"], headers={"Accept": "text/html"}).status_code == 302
    chat("delete", f"conversations/{membership.conversation_id}", status=204)
    assert chat.client.get(made["url"]).status_code == 404
    mallory("delete", f"attachments/{made['id']}", status=404)


def test_parts_and_repeated_questions(chat):
    made = upload(chat, b"0123456789", "a.txt")

    def get(**headers):
        return chat.client.get(made["url"], headers=headers)

    whole = get()
    assert body(whole) == b"0123456789"
    tag = whole.headers["ETag"]
    assert get(**{"If-None-Match": tag}).status_code == 304
    for asked, status, part, told in (
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=4-99", 206, b"456789", "bytes 4-9/10"),
        ("bytes=1-2,4-5", 200, b"0123456789", None),
        ("nonsense", 200, b"0123456789", None),
    ):
        response = get(Range=asked)
        assert response.status_code == status, asked
        assert body(response) == part
        assert response.headers.get("Content-Range") == told
        assert int(response.headers["Content-Length"]) == len(part)
    for asked in ("bytes=10-", "bytes=5-2", "bytes=-0"):
        refused = get(Range=asked)
        assert refused.status_code == 416
        assert refused.headers["Content-Range"] == "bytes */10"
    assert get(Range="bytes=2-4", **{"If-Range": '"other"'}).status_code == 200
    head = chat.client.head(made["url"])
    assert head.headers["Content-Length"] == "10"
    assert head.content == b""


def test_an_upload_with_a_key_is_taken(chat):
    upload(chat, b"hello", "a.txt", **{"Idempotency-Key": "upload-1"})


def test_a_content_that_is_gone_from_the_disk_is_no_fault(chat, place):
    made = upload(chat, b"hello", "a.txt")
    contents(place)[0].unlink()
    assert chat.client.get(made["url"]).status_code == 404
