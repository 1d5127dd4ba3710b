"""Sends a file from the disk: whole, a part of it, or the word that the client has it already. Never all of it in memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import BinaryIO

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header, parse_etags

CHUNK = 256 * 1024
# What was stored is never run, whatever it is and wherever it is opened.
SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})\Z")


def send_file(
    request: HttpRequest,
    file: BinaryIO,
    *,
    size: int,
    etag: str,
    name: str,
    media_type: str,
    inline: bool = False,
    cache: str = "private, no-cache",
) -> HttpResponseBase:
    """The answer to GET or HEAD for an open file, which is closed at the end. ``etag`` without quotes; one range at a time (RFC 9110).

    ``inline`` is for pictures that were drawn here; everything else is saved, not shown.
    """
    tag = f'"{etag}"'
    if tag in parse_etags(request.headers.get("If-None-Match", "")):
        file.close()
        return _with_headers(HttpResponse(status=304), tag, cache)
    begin, end, status = 0, size, 200
    asked = request.headers.get("Range", "")
    if asked and request.headers.get("If-Range", tag) == tag:
        part = _range(asked, size)
        if part == (0, 0):
            file.close()
            refused = HttpResponse(status=416)
            refused.headers["Content-Range"] = f"bytes */{size}"
            return _with_headers(refused, tag, cache)
        if part is not None:
            begin, end, status = *part, 206
    if request.method == "HEAD":
        file.close()
        response: HttpResponseBase = HttpResponse(status=status)
    else:
        response = StreamingHttpResponse(_read(file, begin, end), status=status)
    response.headers["Content-Type"] = f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type
    response.headers["Content-Length"] = str(end - begin)
    response.headers["Content-Disposition"] = content_disposition_header(not inline, name) or "attachment"
    if status == 206:
        response.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    return _with_headers(response, tag, cache)


def _with_headers(response: HttpResponseBase, tag: str, cache: str) -> HttpResponseBase:
    response.headers["ETag"] = tag
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Cache-Control"] = cache
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = SANDBOX
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response


def _range(asked: str, size: int) -> tuple[int, int] | None:
    """Begin and end (exclusive) of the one range that was asked for; ``None``: send all of it; ``(0, 0)``: there is no such part."""
    found = _RANGE.match(asked.strip())
    if found is None or found[0] == "bytes=-":
        return None
    if not found[1]:
        count = min(int(found[2]), size)
        return (size - count, size) if count else (0, 0)
    begin = int(found[1])
    end = min(int(found[2]) + 1, size) if found[2] else size
    return (begin, end) if begin < end else (0, 0)


async def _read(file: BinaryIO, begin: int, end: int) -> AsyncIterator[bytes]:
    try:
        await asyncio.to_thread(file.seek, begin)
        left = end - begin
        while left > 0:
            chunk = await asyncio.to_thread(file.read, min(CHUNK, left))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk
    finally:
        file.close()
