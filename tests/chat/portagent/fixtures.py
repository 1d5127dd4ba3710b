"""Databases shaped exactly like Portagent's, as its own code makes them."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import bcrypt

# apps/portagent/src/server/database/SQLiteUserRepository.ts
USERS_1 = """
PRAGMA foreign_keys = ON;
CREATE TABLE IF NOT EXISTS users (
  userId TEXT PRIMARY KEY, username TEXT UNIQUE NOT NULL, email TEXT UNIQUE NOT NULL, passwordHash TEXT NOT NULL,
  containerId TEXT NOT NULL, displayName TEXT, avatar TEXT, isActive INTEGER NOT NULL DEFAULT 1,
  createdAt INTEGER NOT NULL, updatedAt INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS idx_users_username ON users(username);
CREATE INDEX IF NOT EXISTS idx_users_email ON users(email);
CREATE INDEX IF NOT EXISTS idx_users_containerId ON users(containerId);
"""
# apps/portagent/lib/db/index.ts
USERS_2 = """
CREATE TABLE IF NOT EXISTS system_config (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at TEXT DEFAULT (datetime('now')));
CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, email TEXT UNIQUE NOT NULL, password_hash TEXT NOT NULL,
  role TEXT NOT NULL DEFAULT 'user', created_at TEXT DEFAULT (datetime('now')));
CREATE TABLE IF NOT EXISTS invite_codes (code TEXT PRIMARY KEY, created_by TEXT NOT NULL, used_by TEXT, used_at TEXT,
  created_at TEXT DEFAULT (datetime('now')), FOREIGN KEY (created_by) REFERENCES users(id),
  FOREIGN KEY (used_by) REFERENCES users(id));
"""
# packages/persistence/src/drivers/sqlite.ts
STORE = (
    "CREATE TABLE IF NOT EXISTS kv_storage (key TEXT PRIMARY KEY, value TEXT NOT NULL, created_at INTEGER NOT NULL, "
    "updated_at INTEGER NOT NULL)"
)
T0 = 1_735_689_600_000  # 2025-01-01 00:00:00 UTC
PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
    )
).decode()


def bcrypt_hash(password: str) -> str:
    """As ``Bun.password.hash(password, {algorithm: "bcrypt", cost: 10})``: longer passwords go through SHA-512."""
    given = password.encode()
    return bcrypt.hashpw(hashlib.sha512(given).digest() if len(given) > 72 else given, bcrypt.gensalt(10)).decode()


def pbkdf2_hash(password: str, salt: bytes = b"0123456789abcdef") -> str:
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 100_000, 32)
    return f"{base64.b64encode(salt).decode()}:{base64.b64encode(key).decode()}"


class Portagent:
    """A data folder of one of its two generations."""

    def __init__(self, folder: Path, version: int = 1) -> None:
        self.folder, self.version = folder, version
        data = folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        self.users_path = data / ("portagent.db" if version == 1 else "app.db")
        self.store_path = data / ("agentx.db" if version == 1 else "agentx")
        with self.users() as users:
            users.executescript(USERS_1 if version == 1 else USERS_2)
        with self.store() as store:
            store.execute("PRAGMA journal_mode = WAL")
            store.execute(STORE)

    def users(self) -> sqlite3.Connection:
        return sqlite3.connect(self.users_path)

    def store(self) -> sqlite3.Connection:
        return sqlite3.connect(self.store_path)

    def user(self, number: int, username: str = "", **fields: Any) -> str:
        """Returns the user's id."""
        user_id = f"11111111-2222-4333-8444-{number:012d}"
        username = username or f"user{number}"
        with self.users() as users:
            if self.version == 1:
                row = {
                    "userId": user_id,
                    "username": username,
                    "email": f"{user_id}@noemail.portagent",
                    "passwordHash": "",
                    "containerId": f"user-{user_id[::-1]}",
                    "displayName": None,
                    "avatar": None,
                    "isActive": 1,
                    "createdAt": T0 + number,
                    "updatedAt": T0 + number,
                }
            else:
                row = {
                    "id": user_id,
                    "email": f"{username}@example.org",
                    "password_hash": "",
                    "role": "user",
                    "created_at": f"2025-06-01 10:00:{number % 60:02d}",
                }
            row |= fields
            marks = ", ".join("?" for _ in row)
            users.execute(f"INSERT INTO users ({', '.join(row)}) VALUES ({marks})", list(row.values()))
        return user_id

    def container(self, user_id: str) -> str:
        if self.version == 2:
            return f"user-{user_id}"
        with self.users() as users:
            return users.execute("SELECT containerId FROM users WHERE userId = ?", [user_id]).fetchone()[0]

    def invite(self, code: str, created_by: str, used_by: str | None = None, used_at: str | None = None) -> None:
        with self.users() as users:
            users.execute(
                "INSERT INTO invite_codes (code, created_by, used_by, used_at, created_at) VALUES (?, ?, ?, ?, ?)",
                [code, created_by, used_by, used_at, "2025-06-01 09:00:00"],
            )

    def put(self, key: str, value: Any) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        with self.store() as store:
            store.execute("INSERT OR REPLACE INTO kv_storage VALUES (?, ?, ?, ?)", [key, text, T0, T0])

    def conversation(self, number: int, container: str, messages: Any, **image: Any) -> tuple[str, str]:
        """Returns image id and session id."""
        image_id, session_id = f"img_m5d0q{number:03d}_abc123", f"sess_m5d0q{number:03d}_def456"
        self.put(f"containers:{container}", {"containerId": container, "createdAt": T0, "updatedAt": T0})
        self.put(
            f"images:{image_id}",
            {
                "imageId": image_id,
                "containerId": container,
                "sessionId": session_id,
                "name": "New Conversation",
                "createdAt": T0 + number * 1000,
                "updatedAt": T0 + number * 1000 + 500,
                **image,
            },
        )
        self.put(
            f"sessions:{session_id}",
            {"sessionId": session_id, "imageId": image_id, "containerId": container, "createdAt": T0, "updatedAt": T0},
        )
        self.put(f"idx:images:container:{container}:{image_id}", image_id)
        self.put(f"idx:sessions:image:{image_id}:{session_id}", session_id)
        self.put(f"messages:{session_id}", messages)
        return image_id, session_id


_numbers = iter(range(1, 10_000_000))


def _common(**fields: Any) -> dict[str, Any]:
    number = next(_numbers)
    return {"id": f"msg_{T0 + number}_{number:07d}", "timestamp": T0 + number * 10, **fields}


def user_says(content: Any) -> dict[str, Any]:
    return _common(role="user", subtype="user", content=content)


def agent_says(content: Any, **fields: Any) -> dict[str, Any]:
    return _common(role="assistant", subtype="assistant", content=content, **fields)


def tool_call(call_id: str, name: str, given: Any) -> dict[str, Any]:
    return _common(
        role="assistant",
        subtype="tool-call",
        toolCall={"type": "tool-call", "id": call_id, "name": name, "input": given},
    )


def tool_result(call_id: str, name: str, output: Any) -> dict[str, Any]:
    result = {"type": "tool-result", "id": call_id, "name": name, "output": output}
    return _common(role="tool", subtype="tool-result", toolCallId=call_id, toolResult=result)


def error(content: str, code: str) -> dict[str, Any]:
    return _common(role="error", subtype="error", content=content, errorCode=code)


def talk() -> list[dict[str, Any]]:
    """A conversation with everything in it."""
    return [
        user_says("What is the weather in Bonn?"),
        agent_says(
            [
                {"type": "thinking", "reasoning": "I should look.", "tokenCount": 4},
                {"type": "text", "text": "Let me look."},
            ]
        ),
        tool_call("c1", "weather", {"city": "Bonn"}),
        tool_result("c1", "weather", {"type": "json", "value": {"sun": True}}),
        agent_says("It is sunny.", usage={"inputTokens": 10, "outputTokens": 5}),
        user_says(
            [
                {"type": "text", "text": "And this?"},
                {"type": "image", "data": PNG, "mediaType": "image/png", "name": "sky.png"},
            ]
        ),
        agent_says("A sky."),
        error("The model is overloaded.", "overloaded"),
        user_says("Again?"),
    ]
