"""Asks an image's registry, and mirrors of it, whether the image is there: a HEAD on its manifest (OCI distribution spec 1.1).

A registry that wants a token gets an anonymous one, as for every public pull (Docker registry token authentication).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import httpx

SECONDS = 8.0
DOCKER_HUB = "registry-1.docker.io"
_ACCEPT = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)
_PART = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Image:
    """The parts of an image's name: ``ghcr.io/team/switchboard:1.2`` or ``…@sha256:…``."""

    registry: str
    repository: str
    reference: str

    def at(self, registry: str) -> Image:
        """The same image at a mirror: a registry, with a folder in front of the repository when it has one."""
        host, _, folder = registry.strip().rstrip("/").partition("/")
        return Image(host, f"{folder}/{self.repository}" if folder else self.repository, self.reference)

    def __str__(self) -> str:
        mark = "@" if self.reference.startswith("sha256:") else ":"
        return f"{self.registry}/{self.repository}{mark}{self.reference}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a registry said. ``digest`` is the image's, when it is there."""

    image: Image
    ok: bool
    sentence: str
    digest: str = ""
    size: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: ``{image, ok, sentence, digest, size}``."""
        return {
            "image": str(self.image),
            "ok": self.ok,
            "sentence": self.sentence,
            "digest": self.digest,
            "size": self.size,
        }


def parse(name: str) -> Image | None:
    """The parts of an image's name; None for one that was built here (no registry has it)."""
    head, _, rest = name.strip().partition("/")
    if not rest or not ("." in head or ":" in head or head == "localhost"):
        # Without a registry in front it is Docker Hub's when it names an owner; a bare name was built here.
        return _split(DOCKER_HUB, name.strip()) if rest else None
    return _split(DOCKER_HUB if head in ("docker.io", "index.docker.io") else head, rest)


def _split(registry: str, text: str) -> Image:
    repository, mark, digest = text.partition("@")
    if mark:
        return Image(registry, repository.partition(":")[0], digest)
    repository, _, tag = text.partition(":")
    return Image(registry, repository, tag or "latest")


def ask(image: Image) -> Manifest:
    """HEAD on the image's manifest. Never raises."""
    scheme = "http" if image.registry.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
    url = f"{scheme}://{image.registry}/v2/{image.repository}/manifests/{image.reference}"
    try:
        with httpx.Client(timeout=SECONDS, follow_redirects=True) as http:
            answer = http.head(url, headers={"Accept": _ACCEPT})
            if answer.status_code == 401:
                token = _token(http, answer.headers.get("WWW-Authenticate", ""))
                if token:
                    answer = http.head(url, headers={"Accept": _ACCEPT, "Authorization": f"Bearer {token}"})
    except httpx.HTTPError as error:
        return Manifest(image, False, f"{image.registry} is not reached ({type(error).__name__}).")
    if answer.status_code == 200:
        digest = answer.headers.get("Docker-Content-Digest", "")
        size = answer.headers.get("Content-Length", "0")
        return Manifest(image, True, f"{image.registry} has it.", digest, int(size) if size.isdigit() else 0)
    words = {404: "does not have it", 401: "wants a login", 403: "refuses", 429: "allows no more pulls for now"}
    return Manifest(image, False, f"{image.registry} {words.get(answer.status_code, f'answers {answer.status_code}')}.")


def _token(http: httpx.Client, challenge: str) -> str:
    parts = dict(_PART.findall(challenge))
    realm = parts.pop("realm", "")
    if not challenge.lower().startswith("bearer") or not realm.startswith(
        ("https://", "http://127.0.0.1", "http://localhost")
    ):
        return ""
    answer = http.get(realm, params=parts)
    if answer.status_code != 200:
        return ""
    found = answer.json()
    return str(found.get("token") or found.get("access_token") or "") if isinstance(found, dict) else ""
