"""Names: the predecessor's accounts are found again, and no two ids share one."""

from __future__ import annotations

import itertools
import random

import pytest

from agents.matrix import names
from agents.matrix.names import localpart_for

UUID = "7659b796-4723-4d61-98b5-737f874ee652"


def test_letta_ids_follow_the_predecessor() -> None:
    assert localpart_for(f"agent-{UUID}") == "agent_7659b796_4723_4d61_98b5_737f874ee652"
    assert localpart_for(f"agent-{UUID}", prefix="bot.") == "bot.7659b796_4723_4d61_98b5_737f874ee652"


@pytest.mark.parametrize(
    ("external_id", "scope", "start", "hashed"),
    [
        ("agent-abc-1", "", "agent_abc_1", False),
        ("echo", "demo", "agent_demo__echo", False),
        ("gpt-4o-mini", "open-ai", "agent_open_ai__gpt_4o_mini", False),
        (UUID, "", "agent_7659b796", True),
        (f"agent-{UUID.upper()}", "", "agent_7659b796", True),
        ("agent-a_b", "", "agent_a_b", True),
        ("agent--a", "", "agent_a", True),
        ("gpt-4.1", "openai", "agent_openai__gpt_41", True),
        ("Ωmega", "x", "agent_x__mega", True),
        ("日本", "x", "agent_x___", True),
        ("!!!", "", "agent_x___", True),
        ("..", "", "agent_x___", True),
        ("a" * 1000, "s", "agent_s__aaa", True),
        ("\ud800", "s", "agent_s___", True),
    ],
)
def test_forms(external_id: str, scope: str, start: str, hashed: bool) -> None:
    localpart = localpart_for(external_id, scope=scope)
    assert localpart.startswith(start)
    assert (localpart[-19:-16] == "___") is hashed
    assert localpart == localpart_for(external_id, scope=scope)
    full = names.user_id(localpart, "a" * 100 + ".example.org")
    assert names.valid_user_id(full, strict=True)


def test_no_two_ids_share_an_account() -> None:
    alphabet = ["a", "b", "A", "-", "_", ".", "__", "agent-", "é"]
    ids = {"".join(some) for length in (1, 2, 3) for some in itertools.product(alphabet, repeat=length)}
    scopes = ["", "a", "b", "a-b", "A", "a_b", "a.b", "agent-"]
    seen: dict[str, tuple[str, str]] = {}
    for scope, external_id in itertools.product(scopes, sorted(ids)):
        localpart = localpart_for(external_id, scope=scope)
        assert seen.setdefault(localpart, (scope, external_id)) == (scope, external_id)


def test_an_id_cannot_pretend_to_be_a_hashed_name() -> None:
    hashed = localpart_for("agent-A")
    imitation = "agent-" + hashed.removeprefix("agent_").replace("_", "-")
    assert localpart_for(imitation) != hashed
    scope, _, rest = hashed.removeprefix("agent_").partition("___")
    assert localpart_for(rest, scope=scope) != hashed
    assert localpart_for("_" + rest, scope=scope) != hashed


def test_random_ids_are_valid_and_distinct() -> None:
    random.seed(4)
    pool = "abcXYZ019-_./:@#é漢😀 \n\0"
    made = {"".join(random.choices(pool, k=random.randint(1, 200))) for _ in range(3000)}
    localparts = {localpart_for(one, scope="svc") for one in made}
    assert len(localparts) == len(made)
    assert all(names.valid_user_id(f"@{one}:example.org", strict=True) for one in localparts)


def test_empty_id_is_refused() -> None:
    with pytest.raises(ValueError, match="without an id"):
        localpart_for("")


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("@a:b.org", True),
        ("@a:b.org:8448", True),
        ("@a:[::1]:8448", True),
        ("@A.b=c/d+e-f_1:b", True),
        ("@a", False),
        ("@:b", False),
        ("a:b", False),
        ("@a:", False),
        ("@a b:c", False),
        ("@a:b c", False),
        ("@a:b/..", False),
        ("@a\n:b", False),
        ("@a:b\n", False),
        ("@é:b", False),
        ("@" + "a" * 255 + ":b", False),
        (None, False),
        (5, False),
    ],
)
def test_valid_user_id(text: object, valid: bool) -> None:
    assert names.valid_user_id(text) is valid


def test_building_and_taking_apart() -> None:
    assert names.user_id("a", "b.org") == "@a:b.org"
    assert names.alias("a", "b.org") == "#a:b.org"
    assert names.server_of("@a:b.org:8448") == "b.org:8448"
    assert names.server_of("#a:b.org") == "b.org"
    assert names.localpart_of("@a:b.org:8448") == "a"
    for call in (lambda: names.user_id("a", "x" * 255), lambda: names.alias("a:b", "c"), lambda: names.alias("a", "")):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize("text", ["!room", "!room:server", "@a", "", "x"])
def test_server_of_refuses_room_ids_and_rubbish(text: str) -> None:
    with pytest.raises(ValueError):
        names.server_of(text)
