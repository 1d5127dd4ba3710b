"""A server that speaks like S3: moto's, in a process of its own. It keeps everything in memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx

from .base import Peer, free_port

ACCESS_KEY, SECRET_KEY = "AKIAEXAMPLEBACKUPS00", "s3-secret-of-the-test-0123456789"


class S3(Peer):
    """``bucket`` makes one. ``client`` is boto3's, for a look inside."""

    name = "s3"

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/moto-api/", timeout=2).status_code == 200

    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
        )

    def bucket(self, name: str) -> str:
        self.client().create_bucket(Bucket=name)
        return name

    def options(self, bucket: str, prefix: str = "") -> dict[str, str]:
        """What a destination needs to find it."""
        return {
            "endpoint_url": self.url,
            "bucket": bucket,
            "prefix": prefix,
            "region": "us-east-1",
            "addressing": "path",
        }
