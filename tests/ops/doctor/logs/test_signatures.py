"""The dictionary of errors: every entry recognises its texts, the texts of predecessors are all in it, and unknown errors are grouped."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from ops.doctor.catalogue import get_entry
from ops.logbook.signatures import (
    Dictionary,
    compile_pattern,
    fingerprint,
    groups_since,
    normalised,
    own_signatures,
    pattern_for,
    shipped,
)
from ops.models import ErrorSignature, LogLine
from ops.registry import get_check

# What the documents of the predecessors tell people to look for in logs, and what they say it means.
PREDECESSORS = {
    "Error: LLM_PROVIDER_KEY is required": "llm.key_missing",
    "Invalid API key": "llm.key_invalid",
    "SQLITE_BUSY": "db.locked",
    "ECONNREFUSED": "net.service_to_service",
    "ETIMEDOUT": "net.firewall",
    "database is locked": "db.locked",
    "Permission denied": "portal.data_dir_denied",
    "Invalid invite code": "auth.invite_invalid",
    "Invalid credentials": "auth.bad_credentials",
    "Token Verification Failed": "auth.token_expired",
    "disk full": "disk.low",
    "no space left on device": "disk.low",
    "Connection refused": "net.service_to_service",
    "Unable to reach homeserver": "matrix.hs_unreachable",
    "Invalid username or password": "matrix.login_failed",
    "Host not found": "net.dns",
    "Out of memory": "res.oom",
    "INSERT OR IGNORE": "letta.pg_insert_or_ignore",
    "Task was destroyed but it is pending": "voice.task_leak",
    "Target module not available": "conv.route_failed",
    "Failed to persist conversation": "conv.persist_failed",
}


@pytest.fixture(scope="module")
def dictionary():
    one = Dictionary.__new__(Dictionary)
    one.signatures, one._known = shipped(), {}
    return one


def test_there_are_many_and_each_names_itself_once():
    ids = [one.id for one in shipped()]
    assert len(ids) >= 40
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("signature", shipped(), ids=lambda one: one.id)
def test_every_entry_recognises_its_texts_and_no_earlier_one_does(signature, dictionary):
    assert signature.lines
    for text in signature.lines:
        assert dictionary.recognise(text) is signature
    assert signature.meaning.endswith(".")
    assert signature.remedy
    assert get_check(signature.check) or get_entry(signature.check), signature.check


@pytest.mark.parametrize(("text", "check"), PREDECESSORS.items())
def test_texts_of_the_predecessors_are_known(text, check, dictionary):
    found = dictionary.recognise(text)
    assert found is not None
    assert found.check == check


@pytest.mark.parametrize("text", ["turn_finished", "hello world", "sync.applied", "", "room_created room=!a:hs"])
def test_ordinary_lines_are_no_errors(text, dictionary):
    assert dictionary.recognise(text) is None


def line(event, level="error", **fields):
    return LogLine(at=timezone.now(), level=level, event=event, logger="x", **fields)


def test_errors_that_differ_in_names_and_numbers_only_are_one():
    one = line("pump 12 of @a:hs failed", extra={"error": "no answer from http://a/x after 3 s"})
    other = line("pump 7 of @bert:other.org failed", extra={"error": "no answer from http://b/y after 31 s"})
    third = line("valve 7 of @bert:other.org failed")
    assert fingerprint(one) == fingerprint(other) != fingerprint(third)
    trace = "Traceback\n  File \"a.py\", line {n}\nKeyError: 'x{n}'"
    assert fingerprint(line("x", trace=trace.format(n=1))) == fingerprint(line("x", trace=trace.format(n=2)))
    assert normalised("a 0x1f b '22' 5f3a8c1d2e4b6071") == "a <id> b <text> <id>"


def test_a_pattern_from_a_line_recognises_the_like_and_not_everything():
    pattern = compile_pattern(pattern_for("pump 12 of @a:hs (left) failed at /var/x"))
    assert pattern.search("pump 99 of @other:hs.org (left) failed at /srv/y/z")
    assert not pattern.search("valve 12 of @a:hs (left) failed at /var/x")


@pytest.mark.django_db
def test_groups_count_and_unknown_ones_come_first():
    LogLine.objects.bulk_create([line(f"boom {n}") for n in range(5)] + [line("database is locked")] * 1)
    LogLine.objects.bulk_create([line("only a warning", level="warning")])
    first, second = groups_since(timedelta(hours=1))
    assert (first.count, first.signature) == (5, None)
    assert second.signature.check == "db.locked"


@pytest.mark.django_db
def test_own_entries_come_first_and_a_broken_one_breaks_nothing():
    ErrorSignature.objects.create(pattern="ECONNREFUSED", meaning="The cable.", created_by="test")
    ErrorSignature.objects.create(pattern="(", meaning="Broken.", created_by="test")
    assert Dictionary().recognise("ECONNREFUSED").meaning == "The cable."
    assert sorted(one.compiled is None for one in own_signatures()) == [False, True]


def test_recognising_is_cheap(dictionary):
    import time

    texts = [f"something {n} happened to {n * 7} " + "x" * 1500 for n in range(200)]
    started = time.thread_time()
    for text in texts:
        dictionary.recognise(text)
    assert (time.thread_time() - started) / len(texts) < 0.02
