from __future__ import annotations

import pytest

from agents.backends.sse import SseEvent, SseGarbage, parse_events


def events(*chunks: bytes) -> list[SseEvent]:
    return list(parse_events(chunks))


STREAM = "event: note\ndata: one\n\n: ping\n\ndata: zwei ü\r\ndata: drei\r\n\r\ndata: [DONE]\r\r".encode()
PARSED = [SseEvent("one", "note"), SseEvent("", "comment"), SseEvent("zwei ü\ndrei"), SseEvent("[DONE]")]


def test_it_reads_all_line_ends_comments_and_names():
    assert events(STREAM) == PARSED


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_it_does_not_matter_where_the_bytes_are_cut(size):
    assert events(*(STREAM[i : i + size] for i in range(0, len(STREAM), size))) == PARSED


def test_an_event_without_its_empty_line_is_dropped():
    assert events(b"data: whole\n\ndata: hal") == [SseEvent("whole")]
    assert events(b"data: whole\n\ndata: half\n") == [SseEvent("whole")]


@pytest.mark.parametrize(
    "garbage", [b"<html>\n\n", b'{"error": 1}\n\n', b"data: ok\n\nnonsense\n\n", b"data: \xff\xfe\n\n"]
)
def test_what_is_no_event_is_refused(garbage):
    with pytest.raises(SseGarbage):
        events(garbage)


def test_ids_retries_and_a_byte_order_mark_are_no_garbage():
    assert events(b"\xef\xbb\xbfid: 1\nretry: 10\ndata: x\n\n") == [SseEvent("x")]
