"""The frame of a middleware that stands in sync and in async chains alike.

A chain that is async stays so: no request moves to a thread for the sake of a middleware, and what is streamed is not touched.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

# Methods of requests that change nothing.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class Middleware(ABC):
    """``answer`` serves a sync chain with ``go_on``, ``answer_async`` an async one with ``go_on_async``: the rest of the chain."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        # One of the two is the truth, and only that one is called.
        self.go_on = cast(Callable[[HttpRequest], HttpResponseBase], get_response)
        self.go_on_async = cast(Callable[[HttpRequest], Awaitable[HttpResponseBase]], get_response)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        return self.answer_async(request) if self._is_async else self.answer(request)

    @abstractmethod
    def answer(self, request: HttpRequest) -> HttpResponseBase:
        """The answer to a request in a sync chain."""

    @abstractmethod
    async def answer_async(self, request: HttpRequest) -> HttpResponseBase:
        """The same in an async chain."""
