"""The text of an answer from rows and frames: nothing missing, nothing twice, whatever is lost, late or repeated."""

from __future__ import annotations

import random

from chat.turns.follow import Follower, Row


def _row(raw="", state="running", fence=1, reply=None):
    return Row(state, fence, raw, None if reply is None else 1, reply or "", "", "", "")


class Client:
    """Puts the events together as the documentation says."""

    def __init__(self, held: str = "") -> None:
        self.text, self.final, self.resets = held, None, 0

    def take(self, events) -> None:
        for event in events:
            if event.name == "delta":
                assert event.data["offset"] == len(self.text)
                self.text += event.data["text"]
            elif event.name == "reset":
                self.text, self.resets = "", self.resets + 1
            elif event.data.get("final"):
                self.final = event.data
            if event.name != "turn" or not event.data["final"]:
                assert event.id.endswith(f":{len(self.text)}")


def test_frames_behind_the_row_are_not_repeated():
    follower, client = Follower(1), Client()
    client.take(follower.take_row(_row("Hello wor")))
    for offset, text in ((0, "Hello"), (5, " wor"), (9, "ld"), (9, "ld"), (8, "rld!")):
        events, missing = follower.take_delta(offset, text)
        client.take(events)
        assert not missing
    assert client.text == "Hello world!"


def test_a_gap_is_filled_from_the_row():
    follower, client = Follower(1), Client()
    client.take(follower.take_row(_row("")))
    assert follower.take_delta(6, "world") == ([], True)
    client.take(follower.take_row(_row("Hello ")))
    assert client.text == "Hello world"


def test_white_space_around_the_answer_is_never_shown():
    follower, client = Follower(1), Client()
    client.take(follower.take_row(_row("\n\n  Hello \n")))
    assert client.text == "Hello"
    client.take(follower.take_delta(11, "you \n\n")[0])
    assert client.text == "Hello \nyou"
    client.take(follower.take_row(_row(state="done", reply="Hello \nyou")))
    assert (client.text, client.resets, client.final["length"]) == ("Hello \nyou", 0, 10)


def test_it_begins_where_the_client_is():
    follower, client = Follower(1, sent=5), Client("Hello")
    client.take(follower.take_row(_row("Hel")))
    assert client.text == "Hello"
    client.take(follower.take_row(_row("Hello world")))
    client.take(follower.take_row(_row(state="done", reply="Hello world.")))
    assert (client.text, client.resets) == ("Hello world.", 0)


def test_a_client_that_holds_too_much_begins_anew():
    follower, client = Follower(1, sent=50), Client("x" * 50)
    client.take(follower.take_row(_row(state="done", reply="Short.")))
    assert (client.text, client.resets) == ("Short.", 1)


def test_a_new_attempt_begins_anew():
    follower, client = Follower(1), Client()
    client.take(follower.take_row(_row("First try of th")))
    events, missing = follower.take_delta(0, "Second")
    assert (events, missing) == ([], True)
    assert follower.take_delta(6, " try") == ([], True)
    client.take(follower.take_row(_row("", fence=2)))
    assert (client.text, client.resets) == ("Second try", 1)
    client.take(follower.take_row(_row(state="done", fence=2, reply="Second try.")))
    assert client.text == "Second try."


def test_the_first_attempt_is_no_new_one():
    follower, client = Follower(1), Client()
    client.take(follower.take_row(_row(state="queued", fence=0)))
    client.take(follower.take_delta(0, "Hello")[0])
    client.take(follower.take_row(_row("Hello wor", fence=1)))
    assert (client.text, client.resets) == ("Hello wor", 0)
    resumed, client = Follower(1, sent=5, fence=0), Client("Hello")
    client.take(resumed.take_row(_row("Hello wor", fence=1)))
    assert (client.text, client.resets) == ("Hello wor", 0)


def test_a_client_of_an_earlier_attempt_is_told():
    follower, client = Follower(1, sent=5, fence=1), Client("First")
    client.take(follower.take_row(_row("Second", fence=2)))
    assert (client.text, client.resets) == ("Second", 1)


def test_a_stored_answer_that_differs_wins():
    follower, client = Follower(1), Client()
    client.take(follower.take_row(_row("Something")))
    client.take(follower.take_row(_row(state="cancelled", reply="Else")))
    assert (client.text, client.final["state"]) == ("Else", "cancelled")


def test_any_loss_order_and_repetition_ends_in_the_answer():
    for seed in range(400):
        rng = random.Random(seed)
        attempts = [
            "".join(rng.choice("ab \n") for _ in range(rng.randrange(40))) for _ in range(rng.choice((1, 1, 2, 3)))
        ]
        start = rng.choice((0, 0, 3))
        answer = attempts[-1].strip()
        client, follower = Client(answer[:start]), Follower(1, sent=len(answer[:start]))
        late = []
        for fence, raw in enumerate(attempts, 1):
            at = 0
            while at < len(raw):
                step = rng.randrange(1, 6)
                frame = (at, raw[at : at + step])
                at += step
                frames = [frame] * rng.choice((0, 1, 1, 1, 2)) + ([late.pop()] if late and rng.random() < 0.3 else [])
                if rng.random() < 0.2:
                    late.append(frame)
                for offset, text in frames:
                    events, missing = follower.take_delta(offset, text)
                    client.take(events)
                    if missing and rng.random() < 0.7:
                        client.take(follower.take_row(_row(raw[: rng.randrange(at + 1)], fence=fence)))
        client.take(follower.take_row(_row(state="done", fence=len(attempts), reply=answer)))
        assert client.text == answer, seed


class Whole:
    """A client that keeps everything: text, reasoning by part, tools; puts them together as docs/socket.md says."""

    def __init__(self) -> None:
        self.text, self.reasoning, self.parts = "", "", {}

    def take(self, events) -> None:
        for event in events:
            data = event.data
            if event.name == "delta":
                assert data["offset"] == len(self.text)
                self.text += data["text"]
            elif event.name == "reasoning":
                assert data["offset"] == len(self.reasoning)
                self.reasoning += data["text"]
                part = self.parts.setdefault(data["index"], {"type": "reasoning", "start": data["start"], "text": ""})
                part["text"] += data["text"]
            elif event.name == "part":
                assert data["index"] not in self.parts
                self.parts[data["index"]] = data["part"]
            elif event.name == "reset":
                self.text, self.reasoning, self.parts = "", "", {}

    def in_order(self) -> list[str]:
        """The answer in the order in which it happened."""
        found, at = [], 0
        for index in sorted(self.parts):
            part = self.parts[index]
            if self.text[at : part["start"]]:
                found.append(self.text[at : part["start"]])
                at = part["start"]
            found.append(part.get("text") or part["name"])
        return [*found, self.text[at:]] if self.text[at:] else found


def _stream(rng):
    """Frames of an answer with reasoning and tools, the rows after each of them, and the pieces in their order."""
    frames, rows, pieces, text, reasoned, parts = [], [], [], "", 0, []
    for _ in range(rng.randrange(1, 12)):
        kind = rng.choice(("text", "reasoning", "tool_call"))
        if kind == "text":
            piece = rng.choice("abc") * rng.randrange(1, 4)
            frames.append({"type": "delta", "fence": 1, "offset": len(text), "text": piece})
            text += piece
            if parts and parts[-1]["type"] == "text":
                parts[-1]["end"] = len(text)
                pieces[-1] += piece
            else:
                parts.append({"type": "text", "start": len(text) - len(piece), "end": len(text)})
                pieces.append(piece)
        elif kind == "reasoning":
            piece = rng.choice("xyz") * rng.randrange(1, 4)
            if parts and parts[-1]["type"] == "reasoning":
                parts[-1] = {**parts[-1], "text": parts[-1]["text"] + piece}
                pieces[-1] += piece
            else:
                parts.append({"type": "reasoning", "text": piece, "start": len(text), "end": len(text)})
                pieces.append(piece)
            frames.append(
                {"type": "reasoning", "fence": 1, "index": len(parts) - 1, "start": len(text), "offset": reasoned, "text": piece}
            )  # fmt: skip
            reasoned += len(piece)
        else:
            part = {"type": "tool_call", "name": f"tool{len(parts)}", "start": len(text), "end": len(text)}
            parts.append(part)
            pieces.append(part["name"])
            frames.append({"type": "part", "fence": 1, "index": len(parts) - 1, "part": part})
        beside = [{"index": index, **part} for index, part in enumerate(parts) if part["type"] != "text"]
        rows.append(Row("running", 1, text, None, "", "", "", "", beside))
    return frames, rows, pieces, text


def test_text_reasoning_and_tools_come_in_their_order_whatever_is_lost():
    for seed in range(600):
        rng = random.Random(seed)
        frames, rows, pieces, text = _stream(rng)
        follower, client = Follower(1), Whole()
        for frame, row in zip(frames, rows, strict=True):
            for _ in range(rng.choice((0, 1, 1, 2))):
                client.take(follower.take_frame(frame)[0])
            if rng.random() < 0.2:
                client.take(follower.take_row(row))
        last = rows[-1]
        # What came beside the text is no answer: a turn with none leaves no message, and shows the same row at its end.
        end = Row("done", 1, "", 1, text, "", "", "", last.parts) if text else Row("done", 1, "", None, "", "", "", "", last.parts)  # fmt: skip
        client.take(follower.take_row(end))
        assert client.in_order() == pieces, seed


def test_a_later_attempt_begins_reasoning_and_tools_anew():
    follower, client = Follower(1), Whole()
    client.take(
        follower.take_frame({"type": "reasoning", "fence": 1, "index": 0, "start": 0, "offset": 0, "text": "Hm"})[0]
    )
    client.take(follower.take_frame({"type": "delta", "fence": 1, "offset": 0, "text": "One"})[0])
    client.take(
        follower.take_frame({"type": "reasoning", "fence": 2, "index": 0, "start": 0, "offset": 0, "text": "So"})[0]
    )
    client.take(follower.take_frame({"type": "delta", "fence": 1, "offset": 3, "text": " late"})[0])
    client.take(follower.take_frame({"type": "delta", "fence": 2, "offset": 0, "text": "Two"})[0])
    assert (client.reasoning, client.text) == ("So", "Two")
