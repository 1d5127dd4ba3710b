"""Where keys lie, how they are sealed, and who may hold them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from agents.matrix.crypto import folder
from agents.matrix.crypto.rotation import LABEL
from agents.matrix.crypto.vault import Vault
from ops import losses
from ops.secret_rotation import rotate
from ops.secrets import SecretUnreadable


@pytest.fixture(autouse=True)
def data_dir(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path


def test_every_account_has_a_file_of_its_own_whatever_it_is_called() -> None:
    odd = [
        "@ann:one.test", "@ann:two.test", "@../up:one.test", "@a/b:one.test", "@a%2Fb:one.test", "@.hidden:one.test",
        "@x~y:one.test", "@" + "n" * 180 + "1:one.test", "@" + "n" * 180 + "2:one.test", "@ann:[::1]:8448",
    ]  # fmt: skip
    paths = [folder.path_of(user_id) for user_id in odd]
    assert len({str(path).lower() for path in paths}) == len(odd)
    assert all(path.parent.parent == folder.root() and ".." not in path.parts for path in paths)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert set(folder.accounts()) == set(odd) - {odd[7], odd[8]}
    register = losses.kind_of(LABEL)
    assert register.clear is not None
    register.clear([path.name for path in paths])
    assert folder.files() == []
    assert set(folder.accounts()) == set(odd) - {odd[7], odd[8]}, "they need keys, although theirs lie aside"


def test_only_one_holds_a_file_at_a_time() -> None:
    path = folder.path_of("@ann:one.test")
    inside, order = threading.Event(), []

    def second() -> None:
        inside.wait(10)
        with folder.held(path):
            order.append("second")

    other = threading.Thread(target=second)
    other.start()
    with folder.held(path):
        inside.set()
        with pytest.raises(folder.Busy), folder.held(path, patience=0.2):
            order.append("never")
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]


@pytest.mark.django_db
def test_files_are_sealed_anew_with_a_new_key(settings: Any) -> None:
    path = folder.path_of("@ann:one.test")
    old, new = settings.FIELD_ENCRYPTION_KEYS[0], Fernet.generate_key().decode()
    vault = Vault(path)
    passphrase = vault._passphrase
    vault.close()
    settings.FIELD_ENCRYPTION_KEYS = [new, old]
    dry = next(count for count in rotate(dry_run=True) if count.label == LABEL)
    assert (dry.rotated, dry.current, dry.unreadable) == (1, 0, 0)
    assert next(count for count in rotate() if count.label == LABEL).rotated == 1
    assert next(count for count in rotate() if count.label == LABEL).current == 1
    settings.FIELD_ENCRYPTION_KEYS = [new]
    vault = Vault(path)
    assert vault._passphrase == passphrase
    vault.close()
    settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert next(count for count in rotate() if count.label == LABEL).broken == (path.name,)
    with pytest.raises(SecretUnreadable):
        Vault(path)
