from __future__ import annotations

import pytest

from agents.backends.errors import BackendBroken, BackendRejected, BackendUnavailable

from .fake_letta import PASSWORD, FakeLetta, backend, state


def test_all_pages_once_each_with_a_proof(server):
    FakeLetta(server, agents=62)
    listing = backend(server, page_size=20).list_agents()
    assert [agent.external_id for agent in listing.agents] == [f"agent-{n}" for n in range(1, 63)]
    assert listing.complete
    assert listing.pages == 4
    assert "62 agents, as many as the server counts" in listing.proof
    pages = server.requests("GET", "/v1/agents/")
    assert {(page.query["order"], page.query["order_by"]) for page in pages} == {("asc", "created_at")}
    first = listing.agents[0]
    assert (first.name, first.description, first.model) == ("Name of agent-1", "", "openai/gpt")
    assert first.metadata == {"agent_type": "letta_v1_agent", "tags": ["a", "b"]}


@pytest.mark.parametrize("total", [0, 1, 20, 40])
def test_full_last_pages_and_no_agents(server, total):
    FakeLetta(server, agents=total)
    listing = backend(server, page_size=20).list_agents()
    assert (len(listing.agents), listing.complete) == (total, True)


def test_a_server_that_caps_the_page_is_read_to_its_end(server):
    fake = FakeLetta(server, agents=25)
    whole = server.find

    def capped(asked):
        if asked.path == "/v1/agents/":
            asked.query["limit"] = "10"
        return whole(asked)

    server.find = capped
    listing = backend(server, page_size=100).list_agents()
    assert (len(listing.agents), listing.complete, listing.pages) == (len(fake.ids), True, 3)


def test_an_ignored_cursor_is_noticed(server):
    fake = FakeLetta(server, agents=40)
    server.on("GET", "/v1/agents/", lambda asked: asked.answer([state(one) for one in fake.ids[:20]]))
    listing = backend(server, page_size=20).list_agents()
    assert not listing.complete
    assert len(listing.agents) == 20
    assert "repeats agent-1" in listing.proof


def test_an_agent_deleted_while_reading_leads_to_a_second_pass(server):
    fake = FakeLetta(server, agents=40)
    pages = []

    def page(asked):
        pages.append(asked.query.get("after"))
        if len(pages) == 2:
            fake.ids.remove("agent-20")  # the cursor
        fake._page(asked)

    server.on("GET", "/v1/agents/", page)
    listing = backend(server, page_size=20).list_agents()
    assert listing.complete
    assert len(listing.agents) == 39


@pytest.mark.parametrize("counted", [61, 63])
def test_a_count_that_does_not_match_is_no_proof(server, counted):
    FakeLetta(server, agents=62).count = counted
    listing = backend(server).list_agents()
    assert not listing.complete
    assert f"62 agents listed, but the server counts {counted}" in listing.proof


def test_without_a_count_an_empty_page_is_the_proof(server):
    FakeLetta(server, agents=21)
    server.on("GET", "/v1/agents/count", lambda asked: asked.answer({"detail": "Not Found"}, 404))
    listing = backend(server, page_size=20).list_agents()
    assert listing.complete
    assert (len(listing.agents), listing.pages) == (21, 3)
    assert "no count" in listing.proof


def test_a_page_that_fails_is_an_error_and_no_short_list(server):
    fake = FakeLetta(server, agents=40)
    server.on(
        "GET",
        "/v1/agents/",
        lambda asked: asked.answer({"detail": "x"}, 500) if "after" in asked.query else fake._page(asked),
    )
    with pytest.raises(BackendUnavailable):
        backend(server, page_size=20).list_agents()


@pytest.mark.parametrize("body", [{"data": []}, [{"name": "no id"}], "null", [7]])
def test_another_shape_is_broken(server, body):
    FakeLetta(server)
    server.on("GET", "/v1/agents/", lambda asked: asked.answer(body))
    with pytest.raises(BackendBroken):
        backend(server).list_agents()


def test_one_agent_or_none(server):
    FakeLetta(server)
    assert backend(server).get_agent("agent-1").name == "Name of agent-1"
    assert backend(server).get_agent("agent-2") is None
    server.on("GET", "/v1/agents/nonsense", lambda asked: asked.answer({"detail": "string_pattern_mismatch"}, 422))
    assert backend(server).get_agent("nonsense") is None


def test_the_app_server_is_recognised_and_named(server):
    server.on("GET", "/app-server-info", lambda asked: asked.answer({"type": "app_server_info_response"}))
    with pytest.raises(BackendRejected, match="Letta App Server"):
        backend(server).list_agents()
    assert "Letta App Server" in backend(server).health().detail
    server.on("GET", "/app-server-info", lambda asked: asked.answer({"error": "missing websocket bearer token"}, 401))
    assert "Letta App Server" in backend(server).health().detail


def test_some_other_server_is_named_too(server):
    health = backend(server).health()
    assert not health.ok
    assert "Is this a Letta V1 server" in health.detail


def test_health_needs_the_right_password(server):
    FakeLetta(server)
    health = backend(server).health()
    assert (health.ok, health.version) == (True, "0.16.8")
    assert health.capabilities == {"conversations": False, "background": False}
    assert server.requests("GET", "/v1/agents/")[0].headers["Authorization"] == f"Bearer {PASSWORD}"
    server.on("GET", "/v1/agents/", lambda asked: asked.answer({"detail": f"Unauthorized {PASSWORD}"}, 401))
    health = backend(server).health()
    assert not health.ok
    assert "refused our credentials" in health.detail
    assert PASSWORD not in health.detail


def test_capabilities_of_a_server_with_redis(server):
    FakeLetta(server).has_redis()
    assert backend(server).health().capabilities == {"conversations": True, "background": True}
    assert backend(server, background=False).can.background is False
    assert backend(server, conversations=False).can.conversations is False


def test_an_address_with_the_version_is_the_same_server(server):
    FakeLetta(server)
    server.url += "/v1/"
    assert backend(server).health().ok
