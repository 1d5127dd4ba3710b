"""Errors: every answer becomes the right kind, and says what to do."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from agents.matrix import errors
from agents.matrix.errors import from_response


def body(errcode: str, text: str = "words", **more: object) -> bytes:
    import json

    return json.dumps({"errcode": errcode, "error": text, **more}).encode()


@pytest.mark.parametrize(
    ("status", "payload", "kind", "retryable"),
    [
        (429, body("M_LIMIT_EXCEEDED"), errors.RateLimited, True),
        (429, b"slow down", errors.RateLimited, True),
        (403, body("M_LIMIT_EXCEEDED"), errors.RateLimited, True),
        (401, body("M_UNKNOWN_TOKEN"), errors.TokenRefused, False),
        (401, body("M_MISSING_TOKEN"), errors.TokenRefused, False),
        (401, b"", errors.TokenRefused, False),
        (404, body("M_NOT_FOUND"), errors.NotFound, False),
        (404, body("M_UNRECOGNIZED"), errors.Refused, False),
        (404, b"<html>nginx</html>", errors.Refused, False),
        (400, body("M_USER_IN_USE"), errors.Taken, False),
        (400, body("M_ROOM_IN_USE"), errors.Taken, False),
        (409, body("M_UNKNOWN"), errors.Taken, False),
        (403, body("M_FORBIDDEN"), errors.Forbidden, False),
        (400, body("M_EXCLUSIVE"), errors.Exclusive, False),
        (400, body("M_BAD_JSON"), errors.Refused, False),
        (302, b"", errors.Refused, False),
        (500, body("M_UNKNOWN"), errors.HomeserverUnreachable, True),
        (502, b"<html>Bad gateway", errors.HomeserverUnreachable, True),
        (503, body("M_FORBIDDEN"), errors.HomeserverUnreachable, True),
    ],
)
def test_kind(status: int, payload: bytes, kind: type[errors.MatrixError], retryable: bool) -> None:
    error = from_response(status, payload, {}, where="http://hs")
    assert type(error) is kind
    assert error.retryable is retryable
    assert error.status == status
    assert "http://hs" in error.sentence
    assert error.sentence.endswith(".")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"[1, 2]",
        b'"text"',
        b'{"errcode": 5, "error": {"a": 1}}',
        b'{"errcode": null}',
        b'{"errcode": "M_X", "error": "half',
        b"[" * 100_000,
        b'{"errcode": "' + b"A" * 10_000 + b'", "error": "' + b"B" * 10_000 + b'"}',
    ],
)
def test_garbage_never_crashes_and_stays_short(payload: bytes) -> None:
    for status in (300, 400, 404, 429, 500):
        error = from_response(status, payload, {"retry-after": "\x00"})
        assert len(str(error)) < 600
        assert len(error.sentence) < 900
        assert not isinstance(error, errors.NotFound)


def test_wait_from_body_and_header() -> None:
    assert from_response(429, body("M_LIMIT_EXCEEDED", retry_after_ms=1500)).retry_after == 1.5
    assert from_response(429, b"", {"retry-after": "7"}).retry_after == 7
    assert from_response(503, b"", {"Retry-After": "7"}).retry_after == 7
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < (from_response(429, b"", {"retry-after": later}).retry_after or 0) <= 60
    assert from_response(429, b"", {"retry-after": "-5"}).retry_after == 0
    assert from_response(429, b"", {"retry-after": "1e99"}).retry_after == 3600


@pytest.mark.parametrize("value", ["inf", "nan", "soon", "", "Mon, 99 Foo 2026"])
def test_unusable_wait_is_none(value: str) -> None:
    assert from_response(429, b"", {"retry-after": value}).retry_after is None


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "true", '"5"', "null"])
def test_unusable_wait_in_the_body_is_none(value: str) -> None:
    assert from_response(429, b'{"retry_after_ms": %s}' % value.encode()).retry_after is None


def test_token_sentence() -> None:
    sentence = from_response(401, body("M_UNKNOWN_TOKEN")).sentence
    assert sentence == (
        "The homeserver refused our token (M_UNKNOWN_TOKEN). Agents cannot speak. "
        "Register the appservice again, or paste the new token."
    )


def test_a_repeated_secret_is_taken_out() -> None:
    error = from_response(403, body("M_FORBIDDEN", "bad token s3cr3t"), secret="s3cr3t", where="http://hs")
    assert "s3cr3t" not in f"{error} {error!r} {error.sentence} {error.message}"


def test_forbidden_names_the_remedy() -> None:
    unregistered = from_response(403, body("M_FORBIDDEN", "Application service has not registered this user (@a:b)"))
    outside = from_response(403, body("M_FORBIDDEN", "Application service cannot masquerade as this user (@a:b)."))
    assert "Sync the agent" in unregistered.sentence
    assert "namespace" in outside.sentence


def test_survives_pickling_for_task_results() -> None:
    error = from_response(429, body("M_LIMIT_EXCEEDED", retry_after_ms=10), where="http://hs", action="send")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.retry_after, copy.where) == (errors.RateLimited, str(error), 0.01, "http://hs")
