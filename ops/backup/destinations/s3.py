"""S3 and what speaks like it (MinIO, Ceph, R2, B2, …), through django-storages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ops.backup.destinations.base import SUFFIX, Entry, Progress
from ops.backup.errors import DestinationFailed
from ops.redaction import redact_text

# Of a large file so many bytes go in one request, more where 10,000 of them, which S3 allows, would not do.
_PART = 16 * 1024 * 1024


class S3Place:
    """Objects below ``prefix``. S3 shows an object only when it is there whole."""

    def __init__(self, options: Mapping[str, Any], credentials: Mapping[str, Any]) -> None:
        from boto3.s3.transfer import TransferConfig
        from botocore.config import Config
        from storages.backends.s3 import S3Storage

        self.bucket = str(options.get("bucket") or "").strip()
        self.prefix = str(options.get("prefix") or "").strip().strip("/")
        if not self.bucket:
            raise DestinationFailed("Say which bucket: its name is missing.")
        # What is not given is looked for where AWS's own tools look: environment, profile, role of the machine.
        self.storage = S3Storage(
            bucket_name=self.bucket,
            location=self.prefix,
            endpoint_url=str(options.get("endpoint_url") or "").strip() or None,
            region_name=str(options.get("region") or "").strip() or None,
            addressing_style=str(options.get("addressing") or "").strip() or None,
            access_key=credentials.get("access_key") or None,
            secret_key=credentials.get("secret_key") or None,
            default_acl=None,
            file_overwrite=True,
            transfer_config=TransferConfig(multipart_chunksize=_PART, max_concurrency=2),
            client_config=Config(
                connect_timeout=10,
                read_timeout=60,
                retries={"max_attempts": 4, "mode": "standard"},
                s3={"addressing_style": str(options.get("addressing") or "").strip() or "auto"},
                # Newer checksums only where S3 demands them: many servers that speak like S3 do not know them.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def where(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def local_path(self, name: str) -> Path | None:
        return None

    def free(self) -> int | None:
        return None

    def put(self, source: Path, name: str, *, sha256: str = "", progress: Progress | None = None) -> int:
        total = source.stat().st_size
        key = self._key(name)
        with self._told(f"cannot take {name}"):
            if sha256:
                _must_be(source, sha256, name)
            self._sweep()
            self._bucket().upload_file(
                str(source),
                key,
                ExtraArgs={"ContentType": "application/octet-stream", "Metadata": {"sha256": sha256} if sha256 else {}},
                Config=self.storage.transfer_config,
                Callback=_counting(progress, total),
            )
            size = int(self._bucket().Object(key).content_length)
        if size != total:
            raise DestinationFailed(f"{self.where()} has {size:,} of the {total:,} bytes of {name}.")
        return size

    def _sweep(self) -> None:
        """Parts that a killed sending left: they are seen nowhere, and cost room until somebody gives them up."""
        from botocore.exceptions import BotoCoreError, ClientError

        limit = datetime.now(UTC) - timedelta(days=1)
        with suppress(ClientError, BotoCoreError):  # not every server knows of this, nor every key may do it
            for upload in self._bucket().multipart_uploads.all():
                ours = not self.prefix or upload.object_key.startswith(f"{self.prefix}/")
                if ours and upload.object_key.endswith(SUFFIX) and upload.initiated < limit:
                    upload.abort()

    def fetch(self, name: str, target: Path, *, progress: Progress | None = None) -> None:
        key = self._key(name)
        with self._told(f"cannot give {name}"):
            total = int(self._bucket().Object(key).content_length) if progress is not None else 0
            self._bucket().download_file(
                key, str(target), Config=self.storage.transfer_config, Callback=_counting(progress, total)
            )

    def head(self, name: str, length: int) -> bytes:
        with self._told(f"cannot give {name}"):
            answer = self._bucket().Object(self._key(name)).get(Range=f"bytes=0-{length - 1}")
            return bytes(answer["Body"].read())

    def entries(self) -> list[Entry]:
        prefix = f"{self.prefix}/" if self.prefix else ""
        found = []
        with self._told("cannot be listed"):
            for one in self._bucket().objects.filter(Prefix=prefix):
                name = str(one.key)[len(prefix) :]
                if name.endswith(SUFFIX) and "/" not in name and not name.startswith("."):
                    found.append(Entry(name.removesuffix(SUFFIX), int(one.size), one.last_modified))
        return sorted(found, key=lambda entry: entry.name)

    def delete(self, name: str) -> None:
        with self._told(f"cannot remove {name}"):
            self._bucket().Object(self._key(name)).delete()

    def _bucket(self) -> Any:
        return self.storage.bucket

    def _key(self, name: str) -> str:
        if "/" in name or name.startswith("."):
            raise DestinationFailed(f"{name!r} is no name of a backup.")
        return f"{self.prefix}/{name}{SUFFIX}" if self.prefix else f"{name}{SUFFIX}"

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (ClientError, BotoCoreError, Boto3Error, OSError) as error:
            # What goes wrong while a file is sent is wrapped into an error that tells of our paths.
            inner = error.__context__ if isinstance(error, Boto3Error) else error
            if isinstance(inner, ClientError):
                facts = inner.response.get("Error", {})
                code, text = str(facts.get("Code", "")), str(facts.get("Message", ""))
                told = _word(code) or f"{code} {text}".strip()
            else:
                told = str(inner or error)
            raise DestinationFailed(f"{self.where()} {what}: {redact_text(told).rstrip('.')[:300]}.") from error


def _word(code: str) -> str:
    return {
        "404": "it is not there",
        "NoSuchKey": "it is not there",
        "NoSuchBucket": "there is no such bucket",
        "403": "the credentials may not do that",
        "AccessDenied": "the credentials may not do that",
        "InvalidAccessKeyId": "the access key is not known there",
        "SignatureDoesNotMatch": "the secret key is not the right one",
    }.get(code, "")


def _must_be(source: Path, sha256: str, name: str) -> None:
    import hashlib

    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise DestinationFailed(f"{name} is not sent: the file here is not what it was when it was made.")


def _counting(progress: Progress | None, total: int) -> Any:
    if progress is None:
        return None
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

    return count
