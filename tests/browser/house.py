"""The portal in a real browser, against a real ``manage.py up`` with the demo agents."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.up.running import Up

PASSWORD = "brass-cord-and-lamp-7"
WAIT = 45_000  # milliseconds; the machine may be busy

WIDE_LIGHT = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}
PHONE_DARK = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark", "has_touch": True}


@dataclass
class Portal:
    """One running installation and a browser."""

    up: Up
    browser: Any
    contexts: list[Any] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.up.url

    def person(self, name: str, *, display_name: str = "") -> int:
        """A person with the password; known ones stay."""
        return int(
            self.up.ask(
                "from chat.models import Person\n"
                f"person, made = Person.objects.get_or_create(username={name!r}, defaults={{'display_name': {display_name!r}}})\n"
                f"person.set_password({PASSWORD!r}) if made else None\nperson.save()\nresult = person.pk"
            )
        )

    def agent(self, name: str) -> int:
        return int(self.up.ask(f"from agents.models import Agent\nresult = Agent.objects.get(name={name!r}).pk"))

    def context(self, **options: Any) -> Any:
        """A browser of somebody's own. What it complains about is collected."""
        context = self.browser.new_context(timezone_id="Europe/Berlin", **{"locale": "en-GB", **WIDE_LIGHT, **options})
        context.set_default_timeout(WAIT)
        self.contexts.append(context)
        context.on("page", self._listen)
        return context

    def _listen(self, page: Any) -> None:
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("console", lambda said: self._hear(page, said))

    def _hear(self, page: Any, said: Any) -> None:
        if said.type == "error" or "Content Security Policy" in said.text or "Content-Security-Policy" in said.text:
            self.complaints.append(f"{page.url}: {said.text} {said.location.get('url', '')}")

    def signed_in(self, name: str, **options: Any) -> Any:
        """A page of a signed-in person, on the chat page."""
        self.person(name)
        page = self.context(**options).new_page()
        sign_in(page, self.url, name)
        return page

    def talk_to(self, page: Any, agent: str) -> None:
        """The page of an agent with whom nothing was said yet."""
        page.goto(f"{self.url}/chat/?agent={self.agent(agent)}")
        page.locator("#composer").wait_for()

    @contextmanager
    def expecting(self, *patterns: str) -> Iterator[None]:
        """Complaints that a test causes on purpose."""
        yield
        self.complaints[:] = [one for one in self.complaints if not any(re.search(each, one) for each in patterns)]

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        self.contexts.clear()


def sign_in(page: Any, url: str, name: str) -> None:
    page.goto(f"{url}/account/login/?next=/chat/")
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.locator("#desk").wait_for()
    # The desk is there before its scripts listen.
    page.wait_for_load_state()


def opened(page: Any) -> None:
    """Wait until the conversation of the address is open (on a wide screen): its address comes first, the focus last."""
    page.wait_for_url(re.compile(r"/chat/c/\d+/"))
    until(lambda: page.evaluate("document.activeElement.id") == "words", "the conversation is open, one can write")


def say(page: Any, text: str) -> None:
    """Type into the message field and send with its button (Enter is a new line where fingers type)."""
    page.locator("#words").fill(text)
    page.locator("#send").click()


def answers(page: Any) -> Any:
    """Answers that are finished."""
    return page.locator(".message.agent:not(.live)")


def until(happened: Callable[[], Any], what: str, seconds: float = WAIT / 1000) -> None:
    """Wait for something. (Playwright's own way evaluates text in the page, which the security policy forbids.)"""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"This did not happen: {what}"
        time.sleep(0.05)


def fits(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))
