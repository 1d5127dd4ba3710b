"""Containers: whether this process runs in one, and whether it shares a network with the container behind a name.

Docker is asked only where its socket was given to us (``DOCKER_HOST`` or ``/var/run/docker.sock``), with GET alone
(Docker Engine API v1.41: ``/containers/json``, ``/containers/{id}/json``).
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from ops.network import dns

_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_SOCKET = "/var/run/docker.sock"
_ID = re.compile(r"[0-9a-f]{64}")
_SERVICE = "com.docker.compose.service"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about the network to a host. ``problem`` is a sentence, "" when all is well."""

    problem: str = ""
    sentence: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


def inside() -> bool:
    """Whether this process runs in a container: the mark that Docker and Podman leave, or what systemd and LXC say."""
    # The variable has no capitals (systemd, "Container Interface").
    return any(mark.exists() for mark in _MARKS) or bool(os.environ.get("container"))  # noqa: SIM112


def here() -> str:
    """Where this process runs, for sentences."""
    return f"container {socket.gethostname()}" if inside() else socket.gethostname()


def examine(host: str) -> Finding:
    """Whether this container can be on the network of ``host``."""
    interfaces = sorted(name for name in psutil.net_if_addrs() if name != "lo" and not name.startswith("lo:"))
    evidence: dict[str, Any] = {"host": host, "interfaces": interfaces, "docker": "not asked"}
    bare = bool(host) and "." not in host and ":" not in host and host != "localhost"
    if not interfaces and host not in ("localhost", "127.0.0.1", "::1"):
        return Finding(f"This container has no network at all, so {host} cannot be reached.", "", evidence)
    if not bare:
        return Finding("", f"{host} is no container's name; this container has {', '.join(interfaces)}.", evidence)
    docker = Docker.find()
    if docker is not None:
        with docker:
            asked = _by_docker(docker, host, evidence)
        if asked is not None:
            return asked
    found = dns.resolver().resolve(host)
    evidence["resolved"] = found.kind
    if found.kind == "nxdomain":
        return Finding(
            f"The container {socket.gethostname()} does not know the name {host}: they are on different networks, or {host} "
            "is no service of this project.",
            "",
            evidence,
        )
    return Finding("", f"{host} is known in this container.", evidence)


def _by_docker(docker: Docker, host: str, evidence: dict[str, Any]) -> Finding | None:
    """None when Docker does not know this container or that one."""
    try:
        own = docker.container(own_id())
        other = next((one for one in docker.containers() if host in names_of(one)), None)
    except (httpx.HTTPError, ValueError) as error:
        evidence["docker"] = f"does not answer ({type(error).__name__})"
        return None
    if own is None:
        evidence["docker"] = "does not know this container"
        return None
    ours = networks_of(own)
    evidence |= {"docker": "asked", "our_networks": sorted(ours)}
    if other is None:
        return Finding(f"Docker has no running container named {host}.", "", evidence)
    theirs = networks_of(other)
    evidence["their_networks"] = sorted(theirs)
    if ours & theirs:
        return Finding("", f"{host} and this container share {', '.join(sorted(ours & theirs))}.", evidence)
    text = f"{host} is on {', '.join(sorted(theirs)) or 'no network'}, this container on {', '.join(sorted(ours)) or 'none'}: "
    return Finding(text + "they share none, so its name and address mean nothing here.", "", evidence)


def networks_of(row: Mapping[str, Any]) -> set[str]:
    """Names of a container's networks, as both the list and the details have them."""
    return set((row.get("NetworkSettings") or {}).get("Networks") or {})


def names_of(row: Mapping[str, Any]) -> set[str]:
    """What a container of the list is called: names, compose service, aliases."""
    found = {str(name).strip("/") for name in row.get("Names") or ()}
    service = (row.get("Labels") or {}).get(_SERVICE)
    for network in ((row.get("NetworkSettings") or {}).get("Networks") or {}).values():
        found |= set(network.get("Aliases") or ())
    return found | ({service} if service else set())


def own_id() -> str:
    """Docker's id of this container: from the mounts that it makes, else the host name, which is its beginning."""
    try:
        match = _ID.search(Path("/proc/self/mountinfo").read_text(encoding="ascii", errors="replace"))
    except OSError:
        match = None
    return os.environ.get("HOSTNAME", "") or (match.group(0) if match else socket.gethostname())


class Docker:
    """Docker's API over its socket, reading only."""

    def __init__(self, path: str) -> None:
        self._http = httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://docker", timeout=3.0)

    @classmethod
    def find(cls) -> Docker | None:
        """The socket that was given to us, or None."""
        told = os.environ.get("DOCKER_HOST", "")
        path = told.removeprefix("unix://") if told.startswith("unix://") else "" if told else _SOCKET
        return cls(path) if path and os.path.exists(path) and os.access(path, os.R_OK | os.W_OK) else None

    def __enter__(self) -> Docker:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def containers(self) -> list[dict[str, Any]]:
        """The running containers. Raises ``httpx.HTTPError``."""
        answer = self._http.get("/v1.41/containers/json")
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()
        return rows

    def container(self, id: str) -> dict[str, Any] | None:
        """One container's details, None when Docker does not know it. Raises ``httpx.HTTPError``."""
        answer = self._http.get(f"/v1.41/containers/{id}/json")
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        row: dict[str, Any] = answer.json()
        return row
