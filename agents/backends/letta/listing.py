"""All agents of a Letta server, with a proof that they are all.

``GET /v1/agents/`` pages by ``after=<last id>``. A cursor that the server does not know (its agent was deleted meanwhile) is
silently ignored and page 1 comes back, so a repeated id means: start over. ``GET /v1/agents/count`` gives the total.
"""

from __future__ import annotations

from typing import Any

from agents.backends.base import AgentInfo, AgentListing
from agents.backends.errors import BackendBroken, BackendRejected
from agents.backends.http import HttpServer
from ops.words import counted

PAGE_SIZE = 200
PASSES = 2
MOST_PAGES = 100_000


def agent_info(state: dict[str, Any]) -> AgentInfo:
    """An ``AgentState``. Only what changes when the agent itself does: no time stamps, no statistics."""
    config = state.get("llm_config") if isinstance(state.get("llm_config"), dict) else {}
    assert isinstance(config, dict)
    model = state.get("model") or config.get("handle") or config.get("model") or ""
    return AgentInfo(
        external_id=str(state["id"]),
        name=str(state.get("name") or state["id"]),
        description=str(state.get("description") or ""),
        model=str(model),
        metadata={"agent_type": str(state.get("agent_type") or ""), "tags": sorted(map(str, state.get("tags") or []))},
    )


def list_agents(server: HttpServer, page_size: int = PAGE_SIZE) -> AgentListing:
    """Read all pages, twice at most when the list changed while it was read. Raises ``BackendError`` when a page fails."""
    listing = AgentListing([], False, "not read")
    for _ in range(PASSES):
        listing = _one_pass(server, page_size)
        if listing.complete:
            break
    return listing


def _one_pass(server: HttpServer, page_size: int) -> AgentListing:
    expected = _count(server)
    found: dict[str, AgentInfo] = {}
    after = ""
    for page_number in range(1, MOST_PAGES):
        page = _page(server, page_size, after)
        for state in page:
            info = agent_info(state)
            if info.external_id in found:
                proof = (
                    f"page {page_number} repeats {info.external_id}: the server ignored the cursor {after or '(none)'}, "
                    "probably because that agent was deleted while the list was read"
                )
                return AgentListing(list(found.values()), False, proof, page_number)
            found[info.external_id] = info
        # A short page is the last one only where the count says so: a proxy may cap the page size.
        if not page or (len(page) < page_size and len(found) == expected):
            return _judged(list(found.values()), expected, _count(server) if page_number > 1 else expected, page_number)
        after = str(page[-1]["id"])
    return AgentListing(list(found.values()), False, f"more than {MOST_PAGES} pages", MOST_PAGES)


def _judged(agents: list[AgentInfo], before: int | None, after: int | None, pages: int) -> AgentListing:
    total = len(agents)
    if before is None and after is None:
        return AgentListing(
            agents, True, f"{counted(total, 'agent')} up to an empty page, no id twice; no count on this server", pages
        )
    if total in (before, after):
        return AgentListing(
            agents, True, f"{counted(total, 'agent')}, as many as the server counts, no id twice", pages
        )
    theirs = before if before == after else f"{before}, then {after}"
    return AgentListing(agents, False, f"{counted(total, 'agent')} listed, but the server counts {theirs}", pages)


def _page(server: HttpServer, size: int, after: str) -> list[dict[str, Any]]:
    params: dict[str, Any] = {"limit": size, "order": "asc", "order_by": "created_at", "include_relationships": "tags"}
    if after:
        params["after"] = after
    page = server.json("GET", "/v1/agents/", params=params, read_seconds=60)
    if not isinstance(page, list) or not all(isinstance(state, dict) and state.get("id") for state in page):
        raise BackendBroken(f"{server.where('GET', '/v1/agents/')}: expected a JSON array of agents with ids.")
    return page


def _count(server: HttpServer) -> int | None:
    """The server's own total, or ``None`` where there is no such call."""
    try:
        total = server.json("GET", "/v1/agents/count")
    except BackendRejected as error:
        if error.status in (404, 405, 422):
            return None
        raise
    return total if isinstance(total, int) else None
