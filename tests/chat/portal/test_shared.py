"""Reading by link: off by default, what strangers see and what not, and how it ends."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from chat.models import Attachment, Role, ShareLink
from ops.live import live_set
from ops.models import AuditEvent, IdempotencyRecord
from tests.api.people import ChatApi, conversation_with, person_named, said
from tests.api.test_people_files import body, upload
from tests.chat.portal.pictures import picture

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _place(settings, tmp_path):
    settings.ATTACHMENTS_DIR = tmp_path / "attachments"


@pytest.fixture
def on(db):
    live_set(key="portal.sharing", value=True, actor="test")


@pytest.fixture
def grace(db):
    return person_named("grace")


@pytest.fixture
def chat(grace):
    return ChatApi(grace)


@pytest.fixture
def mine(grace, ada):
    membership = conversation_with(grace, ada, "Plans <b>")
    said(membership, "What <script>alert(1)</script> next?")
    said(
        membership,
        "**Rest** <img src=x onerror=alert(1)>",
        role=Role.ASSISTANT,
        parts=[{"type": "reasoning", "text": "hm"}],
    )
    return membership


def test_sharing_is_off_until_an_operator_turns_it_on(chat, mine):
    where = f"conversations/{mine.conversation_id}/share"
    chat("post", where, {}, status=403, code="share.off")
    live_set(key="portal.sharing", value=True, actor="test")
    url = chat("post", where, {}, status=201)["url"]
    assert Client().get(url).status_code == 200
    live_set(key="portal.sharing", value=False, actor="test")
    assert Client().get(url).status_code == 404


def test_what_a_stranger_sees(on, chat, grace, ada, mine):
    where = f"conversations/{mine.conversation_id}/share"
    beside = said(mine, "Another answer", role=Role.ASSISTANT, parent=mine.conversation.head.parent, head=False)
    made = chat("post", where, {"expires_in_days": 7}, status=201)
    assert re.fullmatch(r"/shared/[A-Za-z0-9_-]{43}", made["url"])
    said(mine, "said later")
    stranger = Client()
    page = stranger.get(made["url"])
    text = page.content.decode()
    assert "<strong>Rest</strong>" in text
    assert "said later" not in text
    assert beside.text not in text
    assert "hm" not in re.sub(r"<[^>]+>", " ", text).split()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "Plans &lt;b&gt;" in text
    assert "noindex" in page.headers["X-Robots-Tag"]
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert "unsafe-inline" not in page.headers["Content-Security-Policy"]
    assert "no-store" in page.headers["Cache-Control"]
    shown = chat("get", where)["items"][0]
    assert shown["views"] == 1
    assert "url" not in shown
    assert shown["expires_at"] is not None


def test_the_token_is_kept_nowhere(on, chat, mine):
    where = f"conversations/{mine.conversation_id}/share"
    made = chat("post", where, {}, status=201, key="share-1")
    token = made["url"].rpartition("/")[2]
    link = ShareLink.objects.get()
    assert token not in str(link.__dict__)
    assert token.startswith(link.hint)
    assert token not in str(list(AuditEvent.objects.values()))
    assert token not in str(list(IdempotencyRecord.objects.values()))


def test_how_a_link_ends(on, chat, grace, mine):
    where = f"conversations/{mine.conversation_id}"

    def fresh() -> str:
        return chat("post", f"{where}/share", {}, status=201)["url"]

    def is_open(url: str) -> bool:
        return Client().get(url).status_code == 200

    one, two, three = fresh(), fresh(), fresh()
    assert is_open(one)
    newest = chat("get", f"{where}/share")["items"][0]
    chat("delete", f"{where}/share?id={newest['id']}", status=204)
    assert [is_open(url) for url in (one, two, three)] == [True, True, False]
    ShareLink.objects.filter(pk=newest["id"] - 1).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert [is_open(url) for url in (one, two)] == [True, False]
    chat("delete", f"{where}/share", status=204)
    assert not is_open(one)
    four = fresh()
    grace.is_active = False
    grace.save()
    assert not is_open(four)
    grace.is_active = True
    grace.save()
    assert is_open(four)
    chat("delete", where, status=204)
    assert not is_open(four)
    chat("post", f"{where}/restore")
    assert not is_open(four)
    assert not is_open("/shared/" + "A" * 43)
    assert not is_open("/shared/short")


def test_only_ones_own_links(on, chat, grace, ada, mine):
    url = f"conversations/{mine.conversation_id}/share"
    chat("post", url, {}, status=201)
    link = ShareLink.objects.get()
    mallory = ChatApi(person_named("mallory"))
    mallory("delete", f"{url}?id={link.pk}", status=404)
    other = conversation_with(person_named("mallet"), ada)
    mallet = ChatApi(other.person)
    mallet("delete", f"conversations/{other.conversation_id}/share?id={link.pk}", status=404)
    assert ShareLink.objects.get().revoked_at is None


def test_files_of_what_is_shared_and_no_others(on, chat, mine):
    shown, later = upload(chat, picture("PNG"), "a.png"), upload(chat, b"private", "b.txt")
    Attachment.objects.filter(pk=shown["id"]).update(message=mine.conversation.head, conversation=mine.conversation)
    url = chat("post", f"conversations/{mine.conversation_id}/share", {}, status=201)["url"]
    after = said(mine, "said later")
    Attachment.objects.filter(pk=later["id"]).update(message=after, conversation=mine.conversation)
    stranger = Client()
    assert f'src="{url}/files/{shown["id"]}"' in stranger.get(url).content.decode()
    response = stranger.get(f"{url}/files/{shown['id']}")
    assert response.status_code == 200
    assert response.headers["Content-Security-Policy"].startswith("sandbox")
    assert body(response)
    assert stranger.get(f"{url}/files/{later['id']}").status_code == 404
    assert stranger.get(f"/shared/{'A' * 43}/files/{shown['id']}").status_code == 404
    assert stranger.get(shown["url"]).status_code == 401


def test_a_long_conversation_is_paged(on, chat, mine, monkeypatch):
    monkeypatch.setattr("chat.portal.shared.PAGE", 2)
    said(mine, "third")
    url = chat("post", f"conversations/{mine.conversation_id}/share", {}, status=201)["url"]
    page = Client().get(url).content.decode()
    assert "third" in page
    assert "next?" not in page
    before = re.search(r"\?before=(\d+)", page)
    assert before is not None
    assert "next?" in Client().get(f"{url}?before={before[1]}").content.decode()
