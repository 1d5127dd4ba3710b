"""The account signs its own device (client-server API, "Cross-signing").

Since April 2026 Element gives keys only to devices that their owner has signed. Our accounts have one device each and no person who
could sign it, so the account gets its keys of cross-signing here: made when the device first publishes its keys, kept beside them,
sealed, and used once. Nio has none of this. What it does not do: verify anybody, or be verified by emoji.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nio.api import Api

from agents.matrix.crypto.machine import Machine
from agents.matrix.errors import MatrixError
from ops.secrets import seal_text, unseal_text

KINDS = ("master", "self_signing", "user_signing")
SIGNED = "signed"


def prepare(machine: Machine) -> None:
    """Make the account's three keys, unless they are there."""
    if not machine.vault.meta("seeds"):
        seeds = {kind: base64.b64encode(os.urandom(32)).decode() for kind in KINDS}
        machine.vault.set_meta("seeds", seal_text(json.dumps(seeds)))


def publish(client: Any, machine: Machine, password: str = "", *, reset: bool = False) -> str:
    """Publish the keys and sign the device; "signed", or a word on what stands against it. Raises ``MatrixError``.

    ``reset``: also when the account has others already, which needs its ``password``; who knew it by those is told that it changed.
    """
    user_id, device_id = machine.user_id, machine.device_id
    keys = {
        kind: Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed))
        for kind, seed in json.loads(unseal_text(machine.vault.meta("seeds"))).items()
    }
    found = client.keys_query(user_id, [user_id])
    master = (found.get("master_keys") or {}).get(user_id)
    foreign = master is not None and public(keys["master"]) not in (master.get("keys") or {}).values()
    if master is None or (foreign and reset):
        if not _upload(client, user_id, _bodies(user_id, device_id, keys, machine), password):
            return "The homeserver wants the account's password before it may sign its device."
    elif foreign:
        return "The account has keys of cross-signing that are not ours: its owner has to sign the device, in an app of theirs."
    device = (found.get("device_keys") or {}).get(user_id, {}).get(device_id)
    if not isinstance(device, dict):
        return "The homeserver does not have the device's keys."
    bare = {key: value for key, value in device.items() if key not in ("signatures", "unsigned")}
    answer = client.keys_sign(user_id, {user_id: {device_id: _signed(bare, user_id, keys["self_signing"])}})
    failures = answer.get("failures")
    return f"The homeserver did not take the signature: {json.dumps(failures)[:200]}" if failures else SIGNED


def _upload(client: Any, user_id: str, body: dict[str, Any], password: str) -> bool:
    """Publish the account's keys, with its password where the homeserver asks for it. False: it does, and there is none."""
    try:
        client.keys_cross_sign(user_id, body)
    except MatrixError as error:
        if error.status != 401:
            raise
        if not password:
            return False
        identifier = {"type": "m.id.user", "user": user_id}
        client.keys_cross_sign(
            user_id, {**body, "auth": {"type": "m.login.password", "identifier": identifier, "password": password}}
        )
    return True


def _bodies(user_id: str, device_id: str, keys: dict[str, Ed25519PrivateKey], machine: Machine) -> dict[str, Any]:
    bodies: dict[str, Any] = {}
    for kind in KINDS:
        name = public(keys[kind])
        bare = {"user_id": user_id, "usage": [kind], "keys": {f"ed25519:{name}": name}}
        if kind == "master":
            # The device vouches for the account's first key, and this for the two others.
            signature = machine.sign_json(bare)
            bodies["master_key"] = {**bare, "signatures": {user_id: {f"ed25519:{device_id}": signature}}}
        else:
            bodies[f"{kind}_key"] = _signed(bare, user_id, keys["master"])
    return bodies


def _signed(body: dict[str, Any], user_id: str, key: Ed25519PrivateKey) -> dict[str, Any]:
    signature = unpadded(key.sign(Api.to_canonical_json(body).encode()))
    return {**body, "signatures": {user_id: {f"ed25519:{public(key)}": signature}}}


def public(key: Ed25519PrivateKey) -> str:
    """The public half, as Matrix writes it."""
    return unpadded(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
