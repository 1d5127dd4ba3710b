"""Who the demo agents are and what they say."""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agents.backends.base import ReplyRequest
from agents.backends.chunks import Chunk, ReasoningDelta, TextDelta, ToolCall, ToolResult
from agents.backends.demo.memory import MemoryFile
from agents.backends.errors import BackendBroken, BackendBusy, BackendRateLimited, BackendRejected, BackendUnavailable


@dataclass(frozen=True, slots=True)
class Pause:
    """A silence of so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What a character is told, and what it may keep."""

    request: ReplyRequest
    memory: MemoryFile

    @property
    def text(self) -> str:
        return self.request.text.strip()

    @property
    def words(self) -> set[str]:
        return set(re.findall(r"\w+", self.text.lower()))

    @property
    def name(self) -> str:
        return self.request.speaker.name.strip()


Part = Chunk | Pause
Play = Callable[[Scene], Iterator[Part]]


@dataclass(frozen=True, slots=True)
class Character:
    """One demo agent."""

    id: str
    name: str
    description: str
    play: Play
    remembers: bool = False


_ADA_TOPICS: list[tuple[set[str], str]] = [
    (
        {"room", "rooms", "matrix", "space", "element"},
        "Every agent here has a room of its own and answers in it from its own account. The rooms hang together in one space, so "
        "in a Matrix client such as Element you join the space once and see everybody. Write in Echo's room and Echo answers, "
        "not me.",
    ),
    (
        {"agent", "agents", "who", "others", "demo"},
        "Besides me there are five demo agents: **Echo** repeats you word for word, **Tinker** calculates with a tool, **Slow Joe** "
        "takes his time so that you can try to stop him, **Grumble** fails on purpose, and the **Librarian** remembers what you "
        "ask her to. We live inside Switchboard; no network and no key are needed.",
    ),
    (
        {"letta", "connect", "openai", "anthropic", "claude", "real", "service", "key"},
        "To bring your own agents, an operator opens *Services* in the admin, adds a Letta server, any OpenAI-compatible server or "
        "an Anthropic key, and presses *Test connection*. The next sync gives each of its agents an account and a room.",
    ),
    (
        {"stop", "cancel", "slow"},
        "An answer can be stopped while it is being written, and what was said until then stays. Slow Joe is the one to try it on.",
    ),
    (
        {"error", "fail", "fails", "broken", "wrong", "lost"},
        "When an agent fails you get one honest sentence, and the reason is kept for the operator. A message is tried again by "
        "itself where that can help, and it is never answered twice. Say something to Grumble to see it.",
    ),
    (
        {"memory", "remember", "memories"},
        "Some agents keep memory blocks: small labelled texts that they always have in mind. Operators can read and edit them in "
        "the admin. The Librarian has two; tell her *remember that my cat is called Moss*.",
    ),
]

_ADA_INTRODUCTION = (
    "I am Ada, a demo agent. Switchboard connects AI agents with people: each agent gets a Matrix account and a room, and what "
    "you write in the room reaches that agent and no other. Ask me about *rooms*, the other *agents*, how to *connect* real "
    "ones, how to *stop* an answer, what happens when one *fails*, or about *memory*."
)


def ada(scene: Scene) -> Iterator[Part]:
    """Explains Switchboard and answers what was said."""
    hello = f"Hello {scene.name}. " if scene.name and not scene.request.history else ""
    yield ReasoningDelta("Which of the things that I can explain was meant?")
    best = max(_ADA_TOPICS, key=lambda topic: len(topic[0] & scene.words))
    if best[0] & scene.words:
        yield TextDelta(hello + best[1])
    elif not scene.words or scene.words & {"hello", "hi", "hey", "help", "switchboard", "what", "ada"}:
        yield TextDelta(hello + _ADA_INTRODUCTION)
    else:
        quote = scene.text if len(scene.text) <= 160 else scene.text[:157] + "…"
        yield TextDelta(f"{hello}You said “{quote}”, and I heard it clearly. {_ADA_INTRODUCTION}")


def echo(scene: Scene) -> Iterator[Part]:
    """Says exactly what it was told."""
    yield TextDelta(scene.request.text if scene.text else "(silence)")


def tinker(scene: Scene) -> Iterator[Part]:
    """Calculates, and shows the tool at work."""
    expression = find_sum(scene.text)
    if not expression:
        yield TextDelta("I am Tinker and I like to calculate. Give me something such as *12 * (3 + 4)*.")
        return
    yield ReasoningDelta(f"That is a sum: {expression}. I take the calculator rather than guess.")
    call = f"call-{scene.request.idempotency_id or 'demo'}"
    yield ToolCall(call, "calculator", json.dumps({"expression": expression}))
    yield Pause(0.6)
    try:
        result = calculate(expression)
    except ValueError as error:
        yield ToolResult(call, "calculator", str(error), ok=False)
        yield TextDelta(f"My calculator will not take *{expression}*: {error}")
        return
    yield ToolResult(call, "calculator", result)
    yield TextDelta(f"{expression} = **{result}**")


def slow_joe(scene: Scene) -> Iterator[Part]:
    """About twenty seconds, in twenty steps; made to be stopped."""
    yield TextDelta("Let me think this over, slowly. Stop me whenever you like.\n\n")
    for step in range(1, 21):
        yield Pause(0.85)
        yield TextDelta(f"{step}… ")
    yield TextDelta("\n\nThere. It will be fine.")


def grumble(scene: Scene) -> Iterator[Part]:
    """Fails on purpose, in the way that the message asks for; asked politely it only fails the first time."""
    words = scene.words
    yield Pause(0.5)
    if "half" in words:
        yield TextDelta("I was about to say something important, but then ")
        raise BackendBroken("Grumble broke off in the middle of its answer, as it was asked to.")
    if "busy" in words:
        raise BackendBusy("Grumble says that it is busy, as it was asked to.", retry_after=3.0)
    if "limit" in words:
        raise BackendRateLimited("Grumble says that it was asked too often, as it was asked to.", retry_after=5.0)
    if "refuse" in words:
        raise BackendRejected("Grumble refused the message, as it was asked to.")
    if "please" in words and scene.request.attempt > 1:
        yield TextDelta(
            "All right, since you said please. It took me more than one try, and Switchboard waited for me."
        )
        return
    raise BackendUnavailable(
        "Grumble fails on purpose (as a server does that answers 500). Say please, and it answers at the second attempt; half, "
        "busy, limit and refuse are other ways to fail.",
        public="Grumble is in a bad mood and failed on purpose. Say please, and it tries harder.",
    )


def librarian(scene: Scene) -> Iterator[Part]:
    """Keeps notes in a memory block."""
    agent_id, call = scene.request.agent_external_id, f"call-{scene.request.idempotency_id or 'demo'}"
    asked = re.match(r"(?:please\s+)?(?:remember|note)(?:\s+that)?[\s:,]+(.+)", scene.text, re.IGNORECASE | re.DOTALL)
    if asked:
        note = " ".join(asked.group(1).split())
        yield ToolCall(call, "write_note", json.dumps({"note": note}, ensure_ascii=False))
        try:
            scene.memory.add_note(agent_id, note)
        except BackendRejected as error:
            yield ToolResult(call, "write_note", error.reason, ok=False)
            yield TextDelta(f"I could not write that down. {error.reason} An operator can shorten my notes.")
            return
        yield ToolResult(call, "write_note", "written")
        yield TextDelta(f"Written down: “{note}”. Ask me *what do you remember* to hear it again.")
        return
    if scene.words & {"remember", "know", "notes", "list"}:
        notes = next(block.value for block in scene.memory.blocks(agent_id) if block.label == "notes")
        lines = "\n".join(f"- {line}" for line in notes.splitlines() if line.strip())
        yield TextDelta(f"This is what I have:\n\n{lines}" if lines else "My notes are empty.")
        return
    yield TextDelta(
        "I am the Librarian. Say *remember that …* and I write it into my memory; *what do you remember* reads it out."
    )


def find_sum(text: str) -> str:
    """The longest stretch of numbers and signs in a sentence; "" when there is no number."""
    stretches = re.findall(r"-?[\d(][\d\s.+\-*/×÷^()%]*", text.replace(",", ""))
    found = max((stretch for stretch in stretches if re.search(r"\d", stretch)), key=len, default="")
    found = found.strip().rstrip(" .+-*/×÷^%(")
    while found.endswith(")") and found.count(")") > found.count("("):
        found = found[:-1].rstrip()
    return found


_OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def calculate(expression: str) -> str:
    """The value of a sum of numbers. Raises ``ValueError`` with a sentence. Knows numbers and signs, nothing else."""
    if len(expression) > 200:
        raise ValueError("it is longer than 200 characters.")
    source = expression.replace("×", "*").replace("÷", "/").replace("^", "**")

    def value(node: ast.expr) -> float:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return node.value
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            base, power = value(node.left), value(node.right)
            if abs(power) > 64 or abs(base) > 1e6:
                raise ValueError("the power is too large.")
            return float(base**power) if power < 0 else base**power
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.operand))
        raise ValueError("I know numbers, + - * / % ^ and brackets.")

    try:
        result = value(ast.parse(source, mode="eval").body)
    except ZeroDivisionError:
        raise ValueError("it divides by zero.") from None
    except (SyntaxError, OverflowError, MemoryError, RecursionError, TypeError):
        raise ValueError("it is not a whole sum.") from None
    if isinstance(result, float) and result.is_integer() and abs(result) < 1e15:
        result = int(result)
    return str(result) if isinstance(result, int) else f"{result:.10g}"


CHARACTERS: dict[str, Character] = {
    character.id: character
    for character in (
        Character("demo-ada", "Ada", "Explains Switchboard and answers what you say. A good place to begin.", ada),
        Character("demo-echo", "Echo", "Repeats you word for word.", echo),
        Character("demo-tinker", "Tinker", "Calculates with a tool: try 12 * (3 + 4).", tinker),
        Character(
            "demo-slow-joe", "Slow Joe", "Takes about twenty seconds, so that you can try to stop him.", slow_joe
        ),
        Character("demo-grumble", "Grumble", "Fails on purpose, so that you see what happens then.", grumble),
        Character("demo-librarian", "Librarian", "Remembers what you ask her to, in memory blocks.", librarian, True),
    )
}
