"""The chat page without a mouse; and its pure modules, tried in the browser that runs them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.house import Portal, answers, opened, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def focused(page: Any) -> str:
    return str(
        page.evaluate("document.activeElement.id || document.activeElement.className || document.activeElement.tagName")
    )


def test_everything_by_keyboard(portal: Portal) -> None:
    page = portal.signed_in("lotte")
    page.locator(".agent-card").first.wait_for()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/chat/agents" in request.url else None)
    page.keyboard.press("Tab")
    assert "skip" in focused(page)
    page.keyboard.press("Enter")
    assert focused(page) == "main"
    for _ in range(12):
        page.keyboard.press("Tab")
        if "agent-card" in focused(page):
            break
    for _ in range(9):
        if "Slow Joe" in page.evaluate("document.activeElement.textContent"):
            break
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    until(lambda: focused(page) == "words", "one can write at once")
    assert asked == [], "going to the content fetches the agents anew, and takes the focus from whoever stands on one"
    # An input method's Enter ends its composition and sends nothing.
    page.keyboard.type("konnichiwa")
    page.evaluate(
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true }))"
    )
    assert page.locator("#words").input_value() == "konnichiwa"
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    page.keyboard.press("Enter")
    page.locator(".message.live .block").first.wait_for()
    assert page.inner_text(".message.user .words") == "konnichiwa\nsecond line"
    assert focused(page) == "words"
    page.keyboard.press("Escape")
    answers(page).first.wait_for()
    # The last message, said differently, and not after all.
    page.keyboard.press("ArrowUp")
    assert page.locator("#words").input_value() == "konnichiwa\nsecond line"
    page.keyboard.press("Escape")
    assert page.locator("#words").input_value() == ""
    # Through the messages, and to their buttons.
    page.keyboard.press("Alt+k")
    assert page.evaluate("document.activeElement.matches('.message.agent')")
    page.keyboard.press("Alt+k")
    assert page.evaluate("document.activeElement.matches('.message.user')")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Copy the message"
    # Search gives the focus back.
    page.keyboard.press("Shift+Escape")
    page.keyboard.press("Control+k")
    until(lambda: focused(page) == "search-words", "the search field")
    page.keyboard.press("Escape")
    until(lambda: focused(page) == "words", "back where one was")
    # Another conversation, back by key.
    page.keyboard.press("Control+Shift+O")
    page.locator("#pick-title").wait_for()
    page.keyboard.press("Alt+ArrowDown")
    opened(page)
    # Turned off, a key does nothing.
    page.keyboard.press("Shift+Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    overlay = page.get_by_role("dialog", name="Keys")
    overlay.wait_for()
    overlay.get_by_role("button", name="Change keys").click()
    page.get_by_label("Keyboard shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    page.wait_for_timeout(300)
    assert overlay.count() == 0


MODULES = """async () => {
  const { sentencesOf, plain } = await import('/static/portal/js/announce.js');
  const { duration, relatively, dayName } = await import('/static/portal/js/moments.js');
  const { nameOf } = await import('/static/portal/js/shortcuts.js');
  const { TurnView } = await import('/static/portal/js/turn.js');
  const { size, plainWithLinks } = await import('/static/portal/js/message.js');
  const { csrf, clientId, pathOf } = await import('/static/portal/js/api.js');
  const deeds = { isBehind: () => false, stop() {}, decide() {} };
  const now = new Date('2026-03-10T12:00:00');
  const key = (init) => nameOf(new KeyboardEvent('keydown', init));

  // A line that broke: pieces overlap, come twice, and one is missing.
  const view = new TurnView({ id: 1, state: 'running', approvals: [] }, 'Ada', deeds);
  view.delta({ fence: 1, offset: 0, text: 'Héllo \\u{1F600} ' });
  view.delta({ fence: 1, offset: 0, text: 'Héllo \\u{1F600} ' });
  view.delta({ fence: 1, offset: 6, text: '\\u{1F600} world' });
  const gap = view.delta({ fence: 1, offset: 40, text: 'x' });
  const text = view.text;
  const place = view.place;

  // What stands beside the text is at its place, in whatever order it comes.
  const other = new TurnView({ id: 2, state: 'running', approvals: [] }, 'Ada', deeds);
  other.part({ index: 1, part: { type: 'tool_call', id: 'c', name: 'calculator', arguments: '1', start: 5 } });
  other.part({ index: 2, part: { type: 'tool_result', id: 'c', name: 'calculator', output: '1', ok: true, ms: 10, start: 5 } });
  other.block({ block: 1, html: '<p>after</p>', done: false, start: 5 });
  other.block({ block: 0, html: '<p>before</p>', done: true, start: 0 });
  other.block({ block: 1, html: '<p>after all</p>', done: true, start: 5 });
  const order = [...other.items.children].map((one) => one.classList.contains('tool') ? 'tool' : one.textContent.trim());
  // Another attempt begins anew.
  other.delta({ fence: 2, offset: 0, text: 'again' });
  const again = other.items.textContent;
  // A call that waits for a word has two buttons, then says who decided.
  const decided = [];
  const asking = new TurnView({ id: 3, state: 'waiting_approval', approvals: [{ id: 'c', name: 'erase', arguments: '{"all": true}', approve: null }] }, 'Ada',
    { ...deeds, decide: async (turn, approval, approve) => { decided.push([turn.id, approval.id, approve]); } });
  const state = asking.status.textContent;
  const buttons = [...asking.items.querySelectorAll('.approval button')];
  buttons[1].click();
  asking.update({ approvals: [{ id: 'c', name: 'erase', arguments: '{"all": true}', approve: false, by: 'person:ada' }] });
  const approval = { state, words: buttons.map((one) => one.textContent), decided, left: asking.items.querySelectorAll('.approval button').length,
    says: asking.items.querySelector('.approval').textContent.includes('Refused by ada') };
  asking.close(); view.close(); other.close();
  return {
    sentences: sentencesOf('One. Two is 3.5 long! Thr'), plain: plain('**Bold** [link](http://x) `code`'),
    durations: [0.4, 59, 61, 3725].map(duration), rel: relatively(new Date('2026-03-10T11:57:00'), now), day: dayName(new Date('2026-03-09T23:59:00'), now),
    keys: [key({ key: 'k', ctrlKey: true }), key({ key: 'O', ctrlKey: true, shiftKey: true }), key({ key: '?', shiftKey: true }), key({ key: 'Escape' }), key({ key: 'Shift' })],
    approval, text, place, gap, order, again, sizes: [12, 2048, 5 * 1024 * 1024].map(size),
    links: plainWithLinks('see https://a.example/x, and <b>').map((one) => one.href ?? one), client: /^[0-9a-f]{24}$/.test(clientId()), path: pathOf('http://other.example/api/x?cursor=1'), csrf: typeof csrf(),
  };
}"""


def test_pure_modules(portal: Portal) -> None:
    page = portal.context().new_page()
    page.goto(f"{portal.url}/account/login/")
    found = page.evaluate(MODULES)
    assert found["sentences"] == {"sentences": ["One.", "Two is 3.5 long!"], "rest": "Thr"}
    assert found["plain"] == "Bold link code"
    assert found["durations"] == ["0 s", "59 s", "1:01", "1:02:05"]
    assert (found["rel"], found["day"]) == ("3 minutes ago", "Yesterday")
    assert found["keys"] == ["Mod+K", "Mod+Shift+O", "?", "Escape", ""]
    assert found["text"] == "Héllo \U0001f600 world"
    assert found["place"] == "1:13"
    assert found["gap"] is False
    assert found["order"] == ["before", "tool", "after all"]
    assert found["again"] == "again"
    assert found["sizes"] == ["12 B", "2 KB", "5 MB"]
    assert found["links"] == ["see ", "https://a.example/x", ", and <b>"]
    assert found["client"] is True
    assert found["approval"] == {
        "state": "▲Waiting for your word",
        "words": ["Allow", "Refuse"],
        "decided": [[3, "c", False]],
        "left": 0,
        "says": True,
    }
    assert found["path"] == "/api/x?cursor=1"
