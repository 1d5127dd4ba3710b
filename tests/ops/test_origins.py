"""Which origins may use us; those that were refused are counted, and what an operator allows counts at once."""

from __future__ import annotations

import pytest
from django.test import Client

from ops import origins
from ops.live import live_set
from ops.models import Sighting
from ops.origins import allowed_origins, is_allowed, note_refused, parse_origins

STRANGER = "https://chat.elsewhere.example"


@pytest.fixture(autouse=True)
def _fresh_tally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "_tally", origins._Tally())


def test_origins_are_read_and_refused_with_a_sentence() -> None:
    assert parse_origins("https://A.example:443/, http://b.example:8080 ,") == [
        "https://a.example",
        "http://b.example:8080",
    ]
    for bad in ("*", "chat.example.org", "https://a.example/path", "https://a.example:99999999", "javascript:alert(1)"):
        with pytest.raises(ValueError, match="no origin"):
            parse_origins(bad)


@pytest.mark.django_db
def test_ours_is_allowed_and_lookalikes_are_not(settings) -> None:
    settings.PUBLIC_URL = "https://chat.example.org"
    assert is_allowed("https://chat.example.org")
    for other in (
        "http://chat.example.org",
        "https://chat.example.org.evil.example",
        "https://chat.example.org:8443",
        "https://user@chat.example.org",
        "https://chat.example.org/path",
        "null",
        "",
    ):
        assert not is_allowed(other), other
    assert is_allowed("http://10.0.0.5:8000", host="10.0.0.5:8000")
    assert not is_allowed("http://10.0.0.5:8000", host="10.0.0.5:8000", secure=True)


@pytest.mark.django_db
def test_a_write_from_elsewhere_is_refused_counted_and_taken_once_it_is_allowed(admin_user) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(admin_user)
    browser.get("/admin/")
    token = browser.cookies["switchboard_csrf"].value if "switchboard_csrf" in browser.cookies else "x" * 32
    browser.cookies["switchboard_csrf"] = token
    headers = {"Origin": STRANGER, "X-CSRFToken": token}

    def ask() -> int:
        answer = browser.post("/api/v1/checks/db.reachable/run", headers=headers)
        return answer.status_code

    assert ask() == 403
    row = Sighting.objects.get(service="portal", kind="origin")
    assert (row.label, row.count) == (STRANGER, 1)
    assert ask() == 403
    assert Sighting.objects.get().count == 2
    live_set(key=origins.KEY, value=[STRANGER], actor="test")
    assert STRANGER in allowed_origins()
    assert ask() < 300
    assert Sighting.objects.get().count == 2


@pytest.mark.django_db
def test_a_preflight_that_nobody_answers_is_counted() -> None:
    Client().options("/api/v1/me", headers={"Origin": STRANGER, "Access-Control-Request-Method": "POST"})
    assert Sighting.objects.get().label == STRANGER


@pytest.mark.django_db
def test_a_stranger_cannot_fill_the_table() -> None:
    for number in range(500):
        note_refused(f"https://h{number}.example")
        note_refused("https://\x00<script>")
    rows = list(Sighting.objects.all())
    assert len(rows) <= 42
    assert not any("<" in row.label for row in rows)
    assert sum(row.count for row in rows) > 40
