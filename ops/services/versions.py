"""What objects were: their versions, how two differ, and bringing one back through the services of the app that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Exists, OuterRef, QuerySet

from ops.history.registry import CannotBringBack as CannotBringBack
from ops.history.registry import Done, Versioned, Wanted, versioned
from ops.history.writing import Seen, look
from ops.models import ObjectVersion
from ops.redaction import HIDDEN, redact, redact_field
from ops.secrets import SecretUnreadable
from ops.services import audit


@dataclass(frozen=True, slots=True)
class Difference:
    """One part of an object that differs. ``before`` and ``after`` are fit to be shown; of a ``secret`` only that it differs.

    ``observed``: its server says so; bringing a version back does not change it.
    """

    field: str
    label: str
    before: Any
    after: Any
    secret: bool = False
    observed: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("field", "label", "before", "after", "secret", "observed")}


@dataclass(frozen=True, slots=True)
class BroughtBack:
    """What bringing a version back came to. ``object_id`` is the object's, which is another one where it had been deleted."""

    sentence: str
    object_id: str


def versions_of(target: models.Model | str, object_id: Any = None) -> QuerySet[ObjectVersion]:
    """The versions of an object, the newest first: of a row, or of ``("ops.service", 3)``. Empty for what keeps none."""
    named = target.lower() if isinstance(target, str) else target._meta.label_lower
    key = object_id if isinstance(target, str) else target.pk
    return ObjectVersion.objects.filter(model=named, object_id=str(key)).order_by("-id")


def deleted_objects(model: str) -> QuerySet[ObjectVersion]:
    """Of each object of a kind that is gone, what it was when it went; the newest first."""
    rows = ObjectVersion.objects.filter(model=model.lower())
    newer = rows.filter(object_id=OuterRef("object_id"), pk__gt=OuterRef("pk"))
    return rows.filter(~Exists(newer), deleted=True).order_by("-id")


def label_of_kind(model: str) -> str:
    """How objects of a kind are called on pages."""
    kind = versioned(model)
    return kind.label if kind is not None else model


def with_changes(versions: Sequence[ObjectVersion]) -> list[tuple[ObjectVersion, list[Difference]]]:
    """Versions of one object, the newest first (a page of ``versions_of``), each with what it changed. One query more, however many."""
    if not versions:
        return []
    oldest = versions[-1]
    before = versions_of(oldest.model, oldest.object_id).filter(pk__lt=oldest.pk).first()
    earlier: list[ObjectVersion | None] = [*versions[1:], before]
    return [
        (version, changed(former, version) if former is not None else [])
        for version, former in zip(versions, earlier, strict=True)
    ]


def changed(before: ObjectVersion, after: ObjectVersion) -> list[Difference]:
    """What differs between two versions of one object."""
    return _differences(after.model, before.state, after.state, _secret_of(before), _secret_of(after))


def difference(version: ObjectVersion) -> list[Difference]:
    """What bringing the version back would change: ``before`` is what is now, ``after`` what would be. Empty: nothing."""
    present = _present(version)
    state = present.state if present is not None else {}
    secret = present.secret if present is not None else {}
    return _differences(version.model, state, version.state, secret, _secret_of(version))


def bring_back(*, version: ObjectVersion, actor: str) -> BroughtBack:
    """Make the object again what the version says; one that was deleted comes back. Through the services of its own app.

    Raises ``CannotBringBack`` with a sentence: nothing was changed then.
    """
    kind = versioned(version.model)
    if kind is None:
        raise CannotBringBack(f"Nothing here knows what {version.model} is any more.", code="version.unknown_kind")
    present = None
    if kind.model is not None:
        present = kind.model._default_manager.filter(pk=_key(kind, version.object_id)).first()
    wanted = Wanted(
        version.object_id, version.label, version.state, _secret_of(version) if kind.secret_fields else {}, present, actor
    )  # fmt: skip
    newest_before = ObjectVersion.objects.order_by("-id").values_list("pk", flat=True).first() or 0
    try:
        done: Done = kind.bring_back(wanted)
    except ValidationError as error:
        raise CannotBringBack(" ".join(error.messages), code="version.invalid") from error
    key = done.object_id or version.object_id
    if key != version.object_id:
        # The object has another number now; what it was stays with it.
        ObjectVersion.objects.filter(model=version.model, object_id=version.object_id).update(object_id=key)
    said = f"As it was on {version.at:%Y-%m-%d at %H:%M:%S} UTC. {done.sentence}".strip()
    fresh = versions_of(version.model, key).filter(pk__gt=newest_before).values_list("pk", flat=True).first()
    if fresh is not None:
        ObjectVersion.objects.filter(pk=fresh).update(message=said[:500])
    audit.record(
        actor=actor,
        action="version.brought_back",
        target=f"{version.model}:{key}",
        message=f"{version.label}: {said}",
        after={"version": version.pk},
    )
    return BroughtBack(done.sentence, key)


def _present(version: ObjectVersion) -> Seen | None:
    kind = versioned(version.model)
    if kind is not None and kind.model is not None:
        return look(kind, [_key(kind, version.object_id)]).get(version.object_id)
    newest = versions_of(version.model, version.object_id).first()
    return Seen(newest.label, newest.state, _secret_of(newest)) if newest is not None else None


def _key(kind: Versioned, object_id: str) -> Any:
    assert kind.model is not None
    assert kind.model._meta.pk is not None
    return kind.model._meta.pk.to_python(object_id)


def _secret_of(version: ObjectVersion) -> dict[str, Any] | None:
    try:
        return dict(version.secret or {})
    except SecretUnreadable:
        return None


def _differences(
    model: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    secret_before: Mapping[str, Any] | None,
    secret_after: Mapping[str, Any] | None,
) -> list[Difference]:
    kind = versioned(model)
    old, new = _flat(before), _flat(after)
    found = []
    # PostgreSQL keeps the parts of a document in an order of its own.
    place = {name: number for number, name in enumerate(kind.fields)} if kind is not None else {}
    for name in sorted({*old, *new}, key=lambda one: (place.get(one.partition(".")[0], len(place)), one)):
        if old.get(name) != new.get(name):
            label = kind.label_of(name) if kind is not None else name
            observed = kind is not None and name.partition(".")[0] in kind.observed
            was, now = _shown(name, old.get(name)), _shown(name, new.get(name))
            found.append(Difference(name, label, was, now, observed=observed))
    for name in kind.secret_fields if kind is not None else ():
        readable = secret_before is not None and secret_after is not None
        if not readable or (secret_before or {}).get(name) != (secret_after or {}).get(name):
            label = kind.label_of(name) if kind is not None else name
            was, now = (HIDDEN if one is None or one.get(name) else "" for one in (secret_before, secret_after))
            found.append(Difference(name, label, was, now, secret=True))
    return found


def _flat(state: Mapping[str, Any]) -> dict[str, Any]:
    """Parts of parts count by themselves, so that a change of one option is shown as that."""
    flat: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": one for inner, one in value.items()}
        else:
            flat[name] = value
    return flat


def _shown(name: str, value: Any) -> Any:
    return redact_field(name.rpartition(".")[2], value) if "." in name else redact(value)
