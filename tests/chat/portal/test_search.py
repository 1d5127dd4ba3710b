"""Search: what is found, whose it is, in which order, on the database of the run (``test_search_postgres`` runs these on PostgreSQL)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chat.models import Conversation, Membership, Message, MessageState, Role
from chat.search import find, index
from chat.search.snippets import pieces
from chat.search.wish import Wish, WishInvalid, read_wish
from tests.api.people import ChatApi, conversation_with, person_named, said

pytestmark = pytest.mark.django_db


@pytest.fixture
def grace(db):
    return person_named("grace")


@pytest.fixture
def chat(grace):
    return ChatApi(grace)


@pytest.fixture(params=["direct", "index", "windows"])
def way(request, monkeypatch):
    """Each of the three ways of looking; all have to find the same."""
    if request.param != "direct":
        monkeypatch.setattr(find, "FEW_MESSAGES", 0)
    if request.param == "windows":
        monkeypatch.setattr(index, "is_installed", lambda connection: False)
    return request.param


def texts(person, query: str, limit: int = 25) -> list[str]:
    found, below = [], None
    wish = read_wish(query, UTC)
    while True:
        page = find.find_messages(person, wish, below=below, limit=limit)
        found += [row.text for row in page.messages]
        below = page.below
        if below is None:
            return found


SAID = [
    "The server maintenance is on Friday",
    "Die Serverwartung beginnt am Freitag",
    "Überweisung an Jürgen",
    "ÜBERWEISUNG VERSCHICKT",
    "Привет, мир! Как дела?",
    "ΚΑΛΗΜΕΡΑ κόσμε",
    "東京タワーに行きました",
    "日本語を話します",
    "مرحبا بالعالم",
    "100% sure_thing \\ back",
    'say "cheese" OR NOT (this)* near',
    "it's an apostrophe",
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("maintenance", [0]),
        ("MAINTENANCE friday", [0]),
        ("friday server", [0]),
        ("server", [1, 0]),
        ("wartung", [1]),
        ("überweisung", [3, 2]),
        ("ÜBERWEISUNG", [3, 2]),
        ("привет", [4]),
        ("МИР", [4]),
        ("καλημερα", [5]),
        ("東京タワー", [6]),
        ("京タ", [6]),
        ("日本", [7]),
        ("語", [7]),
        ("بالعالم", [8]),
        ("100%", [9]),
        ("0%", [9]),
        ("sure_thing", [9]),
        ("sureXthing", []),
        ("\\", [9]),
        ("cheese", [10]),
        ('"OR NOT"', [10]),
        ("(this)*", [10]),
        ("it's", [11]),
        ('"server maintenance"', [0]),
        ('"maintenance server"', []),
        ("nothing-of-the-kind", []),
        ("", []),
        ("   ", []),
    ],
)
def test_what_is_found(grace, ada, way, query, found):
    membership = conversation_with(grace, ada)
    for text in SAID:
        said(membership, text)
    assert texts(grace, query) == [SAID[number] for number in found]


def test_only_ones_own(grace, ada, way):
    """Not another person's, not what oneself deleted, not a room's that nobody opened in the portal."""
    mallory = person_named("mallory")
    said(conversation_with(mallory, ada), "secret plan")
    mine = conversation_with(grace, ada)
    said(mine, "my plan")
    deleted = conversation_with(grace, ada)
    said(deleted, "old plan")
    Membership.objects.filter(pk=deleted.pk).update(removed_at=timezone.now())
    assert texts(grace, "plan") == ["my plan"]


def test_page_by_page_with_steps_of_a_few(grace, ada, way, monkeypatch):
    """Others say the same between; nothing is missing, nothing twice, though a step looks at three rows."""
    monkeypatch.setattr(find, "CANDIDATES", 3)
    monkeypatch.setattr(find, "STEPS", 2)
    mine, theirs = conversation_with(grace, ada), conversation_with(person_named("mallory"), ada)
    for number in range(40):
        said(mine if number % 5 == 0 else theirs, f"needle {number}")
    expected = [f"needle {number}" for number in range(35, -1, -5)]
    for limit in (1, 3, 25):
        assert texts(grace, "needle", limit) == expected


def test_what_changed_is_found_as_it_is_now(grace, ada, way):
    membership = conversation_with(grace, ada)
    message = said(membership, "the first wording")
    Message.objects.filter(pk=message.pk).update(text="the second wording")
    assert texts(grace, "first") == []
    assert texts(grace, "second") == ["the second wording"]
    Message.objects.filter(pk=message.pk).update(text="", state=MessageState.REDACTED)
    assert texts(grace, "second") == []
    gone = said(membership, "gone soon")
    gone.delete()
    assert texts(grace, "gone") == []


def test_conditions(chat, grace, ada, make_agent, way):
    bob = make_agent("demo-bob", "Bob Builder")
    one, two = conversation_with(grace, ada, "About ships"), conversation_with(grace, bob, "About houses")
    said(one, "blue sails")
    said(one, "They are blue indeed", role=Role.ASSISTANT)
    said(two, "blue walls")
    Membership.objects.filter(pk=one.pk).update(pinned_at=timezone.now())
    Membership.objects.filter(pk=two.pk).update(archived_at=timezone.now())
    old = said(two, "blue doors")
    Message.objects.filter(pk=old.pk).update(stored_at=datetime(2020, 5, 4, 12, tzinfo=UTC))
    for query, expected in {
        "blue agent:ada": ["They are blue indeed", "blue sails"],
        'blue agent:"bob b"': ["blue doors", "blue walls"],
        "blue pinned:yes": ["They are blue indeed", "blue sails"],
        "blue pinned:no": ["blue doors", "blue walls"],
        "blue archived:yes": ["blue doors", "blue walls"],
        "blue from:agent": ["They are blue indeed"],
        "blue from:me": ["blue doors", "blue walls", "blue sails"],
        "from:me agent:bob": ["blue doors", "blue walls"],
        "blue before:2020-05-05": ["blue doors"],
        "blue before:2020-05-04": [],
        "blue on:2020-05-04": ["blue doors"],
        "blue after:2020-05-05 agent:bob": ["blue walls"],
    }.items():
        assert texts(grace, query) == expected, query
    for query in ("pinned:perhaps", "before:yesterday", "after:2026-13-01", "from:mallory"):
        problem = chat("get", f"search?q={query}", status=422, code="search.invalid")
        assert query.partition(":")[0] in problem["detail"]


def test_titles_and_snippets_over_the_api(chat, grace, ada):
    membership = conversation_with(grace, ada, "Ships & sails")
    other = conversation_with(grace, ada, "Houses")
    first = said(membership, "begin")
    said(membership, "A ship\nwith <b>sails</b> " + "and more " * 100)
    beside = said(membership, "Sails beside", parent=first, head=False)
    said(other, "nothing")
    found = chat("get", "search?q=SAILS")
    assert [row["conversation"] for row in found["titles"]] == [membership.conversation_id]
    assert found["titles"][0]["title"] == [{"text": "Ships & ", "mark": False}, {"text": "sails", "mark": True}]
    assert [row["message"] for row in found["items"]] == [beside.pk, beside.pk - 1]
    assert [row["shown"] for row in found["items"]] == [False, True]
    snippet = found["items"][1]["snippet"]
    assert snippet[:3] == [
        {"text": "A ship with <b>", "mark": False},
        {"text": "sails", "mark": True},
        {"text": snippet[2]["text"], "mark": False},
    ]
    assert snippet[-1]["text"].endswith("…")
    assert found["next"] is None
    page = chat("get", "search?q=sails&limit=1")
    assert [row["message"] for row in chat("get", page["next"])["items"]] == [beside.pk - 1]
    assert chat("get", page["next"])["titles"] == []
    assert chat("get", "search?q=from:me ships")["titles"] == []


def _can_have_an_index() -> bool:
    if connection.vendor == "sqlite":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")
        return bool(cursor.fetchone()[0])


def test_the_index_is_there_and_kept(grace, ada):
    if not _can_have_an_index():
        # Search works without; see the ways above.
        assert not index.is_installed(connection)
        assert not index.install(connection)
        return
    assert index.is_installed(connection)
    membership = conversation_with(grace, ada)
    said(membership, "needle")
    assert find._candidates(["needle"], None) == [(Message.objects.get().pk, membership.conversation_id)]
    index.remove(connection)
    assert not index.is_installed(connection)
    said(membership, "another needle")
    assert index.install(connection)
    assert len(find._candidates(["needle"], None)) == 2


def test_the_same_number_of_queries_however_much(chat, grace, ada):
    def search_all(count: int) -> int:
        with CaptureQueriesContext(connection) as asked:
            assert len(chat("get", "search?q=needle")["items"]) == count
        print(*(query["sql"][:200] for query in asked), sep="\n")
        return len(asked)

    for number in range(3):
        said(conversation_with(grace, ada, f"needle {number}"), f"needle {number}")
    search_all(3)
    few = search_all(3)
    for number in range(9):
        said(conversation_with(grace, ada, f"needle {number}"), f"needle {number}")
    assert search_all(12) == few


def test_what_was_typed_is_taken_apart():
    zone = ZoneInfo("Europe/Berlin")
    wish = read_wish('agent:"Ada Two" invoice "to pay" after:2026-07-01 from:ME http://x note: a:b "', zone)
    assert wish.agent == "Ada Two"
    assert wish.terms == ("invoice", "to pay", "http://x", "note:", "a:b")
    assert wish.sender == "me"
    assert wish.after is not None
    assert wish.after.utcoffset() == timedelta(hours=2)
    assert read_wish("x " * 50, zone).terms == ("x",)
    assert read_wish("agent:", zone) == Wish(terms=("agent:",))
    with pytest.raises(WishInvalid):
        read_wish("archived:maybe", zone)


def test_marks_fit_whatever_the_letters():
    for text, term in (
        ("Straße nach İstanbul", "nach"),
        ("ﬁne ﬁnd", "find"),
        ("x" * 500 + " needle " + "y" * 500, "NEEDLE"),
    ):
        found = pieces(text, [term])
        marked = [piece["text"].casefold() for piece in found if piece["mark"]]
        if term != "find":
            assert marked == [term.casefold()]
        joined = "".join(piece["text"] for piece in found).strip("…")
        assert joined in text
    assert pieces("", ["a"]) == []
    assert pieces("aaaa", ["aa"]) == [{"text": "aaaa", "mark": True}]


def test_conversations_without_a_word_are_looked_past(grace, ada, way):
    conversation_with(grace, ada)
    assert Conversation.objects.count() == 1
    assert texts(grace, "anything") == []
