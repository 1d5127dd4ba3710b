"""One byte of a backup is changed, anywhere; its end is missing; something hangs on behind; the key is another: it is always noticed."""

from __future__ import annotations

import io
import random

import pytest

from ops.backup import age
from ops.backup.verify import verify_backup
from ops.backup.write import write_backup
from tests.support.every_model import fill

pytestmark = pytest.mark.faults
SEED = 20261128


@pytest.fixture(scope="module")
def recovery():
    return age.new_identity()


@pytest.fixture
def whole(transactional_db, tmp_path, settings, recovery) -> bytes:
    """A backup that two keys open, as always: the machine's and a recovery key."""
    settings.DATA_DIR = tmp_path
    fill()
    target = io.BytesIO()
    write_backup(
        target=target,
        made_by={"id": "damage", "installation": "test", "version": "0"},
        recipients=[*age.recipients_of([age.machine_identity()]), recovery[1]],
        include=(),
    )
    return target.getvalue()


def damage(data: bytes, identities=None) -> list[str]:
    """The codes of what is wrong with it."""
    report = verify_backup(io.BytesIO(data), identities=identities)
    assert report.ok is not any(finding.severity == "error" for finding in report.findings)
    assert report.ok or (report.sentence and not report.sha256)
    return [finding.code for finding in report.findings if finding.severity == "error"]


def changed(data: bytes, place: int, chance: random.Random) -> bytes:
    return data[:place] + bytes([data[place] ^ chance.randrange(1, 256)]) + data[place + 1 :]


def test_a_changed_byte_is_noticed_wherever_it_is(whole, recovery):
    assert damage(whole) == damage(whole, [recovery[0]]) == []
    chance = random.Random(SEED)
    line = whole.index(b"\n") + 1
    header = whole.index(b"\n--- ", line) + 60
    # 200 anywhere; and every byte of what is not part of the encrypted blocks.
    places = [*chance.sample(range(len(whole)), 200), *range(header)]
    for place in places:
        found = damage(changed(whole, place, chance), [recovery[0]])
        assert found, (
            f"byte {place} of {len(whole)} (the first line has {line}, age's header ends at {header}; seed {SEED})"
        )
        assert found[0] in ("backup.damaged", "backup.not_a_backup", "backup.newer_version", "backup.wrong_key")


def test_a_missing_end_and_a_longer_one_are_noticed(whole):
    chance = random.Random(SEED)
    for length in [*chance.sample(range(len(whole)), 60), len(whole) - 1, len(whole) - 16, len(whole) - 17]:
        assert damage(whole[:length]), f"{length} of {len(whole)} bytes"
    assert damage(whole + b"\0") == ["backup.damaged"]
    assert damage(whole + whole) == ["backup.damaged"]
    assert damage(b"") == ["backup.not_a_backup"]


def test_parts_of_another_backup_are_noticed(whole, transactional_db):
    """Each half is well by itself: encrypted to the same key, with a first line of its own."""
    target = io.BytesIO()
    write_backup(
        target=target,
        made_by={"id": "another", "installation": "test", "version": "0"},
        recipients=age.recipients_of([age.machine_identity()]),
        include=(),
    )
    other = target.getvalue()
    swapped = other[: other.index(b"\n") + 1] + whole[whole.index(b"\n") + 1 :]
    assert damage(swapped) == ["backup.damaged"]


def test_a_wrong_key_is_named(whole, recovery):
    stranger, recipient = age.new_identity()
    report = verify_backup(io.BytesIO(whole), identities=[stranger])
    assert [finding.code for finding in report.findings] == ["backup.wrong_key"]
    assert age.fingerprint(recovery[1]) in report.sentence
    assert age.fingerprint(recipient) in report.sentence
    assert stranger not in report.sentence
