"""OpenAI's own library as an independent client of a real server: models, answers whole and streamed, errors, going away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.chat.portagent.fixtures import PNG
from tests.peers.letta_stub import LettaStub
from tests.up.running import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

PREPARE = """
import json
from agents.models import Agent, MemoryPolicy
from chat.models import AgentGrant, Person
from chat.services.personal_tokens import personal_token_create
Agent.objects.filter(service__kind="letta").update(memory_policy=MemoryPolicy.ISOLATED)
made = {"agents": {f"{one.service.kind}:{one.external_id}": one.pk for one in Agent.objects.select_related("service")}}
for name in ("ada", "bob"):
    person, _ = Person.objects.get_or_create(username=name, defaults={"all_agents": name == "ada"})
    person.set_password("xk-29-dune-walker")
    person.save()
    made[name] = personal_token_create(person=person, name="test", actor="command")[1]
AgentGrant.objects.get_or_create(person=person, agent=Agent.objects.filter(external_id="gpt-4o").get())
print("@@" + json.dumps(made))
"""


@pytest.fixture(scope="module")
def letta() -> Iterator[LettaStub]:
    stub = LettaStub(agents=1)
    stub.start()
    yield stub
    stub.stop()


@pytest.fixture(scope="module")
def up(tmp_path_factory: Any, model_stub: Any, letta: LettaStub) -> Iterator[Up]:
    folder: Path = tmp_path_factory.mktemp("openai")
    running = Up(
        folder,
        "--no-homeserver",
        OPENAI_BASE_URL=model_stub.base_url,
        OPENAI_API_KEY="sk-stub",
        LETTA_BASE_URL=letta.url,
        DEMO_AGENTS="false",
    )
    running.start(120)
    try:
        running.manage("sync_agents")
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def made(up: Up) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(up.manage("shell", "-v0", "-c", PREPARE).rpartition("@@")[2])
    return found


@pytest.fixture
def client(up: Up, made: dict[str, Any]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{up.url}/v1", api_key=made["ada"], max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def model(made: dict[str, Any]) -> str:
    return f"agent-{made['agents']['openai:gpt-4o']}"


@pytest.fixture
def memory(made: dict[str, Any]) -> str:
    return f"agent-{next(pk for name, pk in made['agents'].items() if name.startswith('letta:'))}"


def user(text: Any) -> Any:
    return {"role": "user", "content": text}


def test_agents_are_models(client: openai.OpenAI, up: Up, made: dict[str, Any], model: str) -> None:
    listed = list(client.models.list())
    assert {one.id for one in listed} == {f"agent-{pk}" for pk in made["agents"].values()}
    one = client.models.retrieve(model)
    assert (one.object, one.id) == ("model", model)
    assert one.model_dump()["name"] == "gpt-4o"
    bob = openai.OpenAI(base_url=f"{up.url}/v1", api_key=made["bob"], max_retries=0)
    assert [one.id for one in bob.models.list()] == [model], "only those that they may talk to"
    with pytest.raises(openai.NotFoundError) as missing:
        bob.models.retrieve(f"agent-{made['agents']['openai:gpt-4o-mini']}")
    assert missing.value.code == "model_not_found"


def test_an_answer_at_once(client: openai.OpenAI, model: str, model_stub: Any) -> None:
    said: list[Any] = [{"role": "system", "content": "Speak like a pirate."}, user("hello there")]
    answer = client.chat.completions.create(model=model, messages=said)
    assert (answer.object, answer.model, answer.choices[0].finish_reason) == ("chat.completion", model, "stop")
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == "echo: hello there"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    said += [{"role": "assistant", "content": answer.choices[0].message.content}, user("and again")]
    client.chat.completions.create(model=model, messages=said)
    sent = [entry["messages"] for entry in model_stub.ledger() if "and again" in str(entry)][-1]
    assert [(one["role"], one["content"]) for one in sent] == [(one["role"], one["content"]) for one in said]


def test_an_answer_as_it_comes(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model, messages=[user("[slow 30] [long 30]")], stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == " ".join(f"word{number}" for number in range(1, 31))
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 3, "piece by piece"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_the_stream_on_the_wire(up: Up, made: dict[str, Any], model: str) -> None:
    with httpx.stream(
        "POST",
        f"{up.url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {made['ada']}"},
        json={"model": model, "messages": [user("wire")], "stream": True},
        timeout=30,
    ) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith(("data: ", ":")) for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert json.loads(lines[0].removeprefix("data: "))["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_a_memory_is_told_only_what_is_new(client: openai.OpenAI, memory: str, letta: LettaStub) -> None:
    said: list[Any] = []
    for text in ("first words", "second words"):
        said.append(user(text))
        answer = client.chat.completions.create(model=memory, messages=said)
        said.append({"role": "assistant", "content": answer.choices[0].message.content})
    heard = [str(entry) for entry in letta.accepted()]
    assert sum("first words" in entry for entry in heard) == 1
    assert sum("second words" in entry for entry in heard) == 1


def test_pictures_are_taken(client: openai.OpenAI, model: str, up: Up) -> None:
    parts = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    ]
    answer = client.chat.completions.create(model=model, messages=[user(parts)])
    assert "what is this?" in (answer.choices[0].message.content or "")
    count = up.manage(
        "shell",
        "-v0",
        "-c",
        "from chat.models import *; print('@@', Attachment.objects.filter(message__text='what is this?').count())",
    )
    assert count.rpartition("@@")[2].strip() == "1"


# Errors


def test_errors_are_of_the_library(client: openai.OpenAI, up: Up, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-99", messages=[user("x")])
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=model, messages=[user("x")], n=3)
    assert wrong.value.param == "n"
    for key in ("wrong", "swb_aaaaaaaaaaaa." + "x" * 43):
        with (
            pytest.raises(openai.AuthenticationError) as nobody,
            openai.OpenAI(base_url=f"{up.url}/v1", api_key=key, max_retries=0) as other,
        ):
            other.models.list()
        assert nobody.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=model, input="x")
    with pytest.raises(openai.APIStatusError) as method:
        client.get("/chat/completions", cast_to=object)
    assert method.value.status_code == 405


def test_an_answer_that_fails_is_an_error(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.APIStatusError) as failed:
        client.chat.completions.create(model=model, messages=[user("[error 400]")])
    assert failed.value.status_code == 502
    assert failed.value.type == "server_error"
    with pytest.raises(openai.APIError, match="refused"):
        list(client.chat.completions.create(model=model, messages=[user("[error 400] streamed")], stream=True))


# Going away


def running(up: Up, text: str) -> str:
    code = f"from chat.models import Turn; print('@@' + (Turn.objects.filter(message__text__contains={text!r}).values_list('state', flat=True).first() or ''))"
    return up.manage("shell", "-v0", "-c", code).rpartition("@@")[2].strip()


def until(up: Up, text: str, state: str) -> str:
    deadline = time.monotonic() + 40
    while (found := running(up, text)) != state and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def test_whoever_leaves_a_stream_stops_the_answer(client: openai.OpenAI, model: str, up: Up, model_stub: Any) -> None:
    text = "[slow 100] [long 900] left in the middle"
    stream = client.chat.completions.create(model=model, messages=[user(text)], stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    assert running(up, text) == "running"
    stream.close()
    assert until(up, text, "cancelled") == "cancelled"


def test_whoever_leaves_before_the_whole_answer_stops_it(up: Up, made: dict[str, Any], model: str) -> None:
    text = "[slow 100] [long 900] left while waiting"
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{up.url}/v1/chat/completions",
            headers={"Authorization": f"Bearer {made['ada']}"},
            json={"model": model, "messages": [user(text)]},
            timeout=httpx.Timeout(3, connect=10),
        )
    assert until(up, text, "cancelled") == "cancelled"


def test_a_revoked_token_ends_the_stream(up: Up, made: dict[str, Any], model: str) -> None:
    code = "from chat.models import *; from chat.services.personal_tokens import *; p = Person.objects.get(username='ada'); print('@@' + personal_token_create(person=p, name='short', actor='command')[1])"
    plain = up.manage("shell", "-v0", "-c", code).rpartition("@@")[2].strip()
    text = "[slow 100] [long 900] revoked"
    with openai.OpenAI(base_url=f"{up.url}/v1", api_key=plain, max_retries=0) as client:
        stream = client.chat.completions.create(model=model, messages=[user(text)], stream=True)
        next(iter(stream))
        up.manage(
            "shell",
            "-v0",
            "-c",
            "from django.utils import timezone; from ops.models import ApiToken; ApiToken.objects.filter(name='short').update(revoked_at=timezone.now())",
        )
        with pytest.raises(openai.APIError, match="ended"):
            list(stream)
    assert until(up, text, "cancelled") == "cancelled"


def test_a_program_that_signed_in_may_use_it(up: Up, made: dict[str, Any], model: str) -> None:
    body = {"usernameOrEmail": "ada", "password": "xk-29-dune-walker"}
    found = httpx.post(f"{up.url}/api/auth/login", json=body, timeout=30).json()
    with openai.OpenAI(base_url=f"{up.url}/v1", api_key=found["token"], max_retries=0) as client:
        assert model in {one.id for one in client.models.list()}
        httpx.post(f"{up.url}/api/auth/logout", headers={"Authorization": f"Bearer {found['token']}"}, timeout=30)
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
