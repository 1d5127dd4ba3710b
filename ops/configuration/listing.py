"""Every setting as an operator sees it: what counts, where it comes from, whether it is right, what can be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.configuration import edit
from ops.configuration.masks import mask, mask_address, shown
from ops.configuration.schema import DEFAULT, ENVIRONMENT, FILE, GENERATED, SECRET_FILE, Setting, configuration
from ops.configuration.trying import Tried, can_try, try_value
from ops.configuration.validity import flaws, placeholders
from ops.live import LiveOption, live, live_options, live_row
from ops.models import ManagedBy, Service
from ops.registry import ServiceField, service_kind
from ops.secrets import SecretUnreadable
from ops.services.services import service_test

# What counts first stands first.
LIVE, SERVICE = "live", "service"
SOURCES = {
    LIVE: "Set live by an operator",
    SERVICE: "The service's row",
    ENVIRONMENT: "The environment",
    FILE: "The settings file",
    SECRET_FILE: "A secret's file",
    GENERATED: "Generated once",
    DEFAULT: "The default",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One setting, or one value of a service. ``value`` is fit to be shown: secrets are masked.

    ``source`` is a key of ``SOURCES``, ``place`` says where exactly. ``valid`` False comes with ``problem``. ``edit`` is "" (not
    from here, ``why_not`` says why and gives the line), "live", "file" or "service"; ``target`` and ``field`` are what config.edit
    takes. ``can_test``: there is a server to ask.
    """

    name: str
    group: str
    help: str
    value: str
    source: str
    place: str = ""
    secret: bool = False
    valid: bool = True
    problem: str = ""
    edit: str = ""
    why_not: str = ""
    target: str = ""
    field: str = ""
    can_test: bool = False
    pending: str = ""
    aliases: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON shape: the fields as they are, with ``source_label``."""
        names = (
            *("name", "group", "help", "value", "source", "place", "secret", "valid", "problem", "edit", "why_not"),
            *("target", "field", "can_test", "pending"),
        )
        return {**{name: getattr(self, name) for name in names}, "source_label": SOURCES[self.source]}


@dataclass(slots=True)
class _Known:
    problems: Mapping[str, str]
    live: Mapping[str, LiveOption]
    services: Mapping[str, Service] = field(default_factory=dict)


def rows() -> list[Row]:
    """All settings in their groups, then those that exist live only, then the values of services. Asks no server."""
    given = configuration()
    running, configured = given.running(), given.read()
    problems: dict[str, list[str]] = {}
    for flaw in [*flaws(configured), *placeholders(configured)]:
        target = flaw.target
        if target.startswith("setting:"):
            target = f"setting:{configured.setting_of(target.removeprefix('setting:'))}"
        problems.setdefault(target, []).append(flaw.sentence)
    options = {option.key: option for option in live_options()}
    services = {service.name: service for service in Service.objects.order_by("name")}
    joined = {target: " ".join(sentences) for target, sentences in problems.items()}
    known = _Known(joined, options, services)
    by_setting = {setting: place for place, setting in given.service_settings.items()}
    found = [_setting(one, running, configured, known, by_setting.get(one.name, "")) for one in given.settings]
    names = {row.name for row in found}
    found += [_live_only(option) for key, option in options.items() if key not in names]
    found += _unknown(joined, {setting.name for setting in given.settings} | set(options))
    for service in services.values():
        found += _service_rows(service, joined.get(f"service:{service.name}", ""))
    return found


def row(name: str, field: str = "") -> Row | None:
    """One of them: a setting by its name, a service's value by ``service:NAME`` and its field."""
    return next((one for one in rows() if one.name == name or (one.target == name and one.field == field)), None)


def test(found: Row) -> Tried:
    """Ask the server that the value is about. Services keep what was found as their status."""
    if found.target.startswith("service:"):
        service = Service.objects.filter(name=found.target.removeprefix("service:")).first()
        if service is None:
            return Tried(None, "The service is gone.")
        result = service_test(service=service, actor="system")
        return Tried(result.status in ("ok", "degraded"), result.sentence)
    return try_value(found.name, configuration().running().values.get(found.name))


def _setting(one: Setting, running: Any, configured: Any, known: _Known, place: str) -> Row:
    display = mask if one.secret else shown
    common: dict[str, Any] = {
        "name": one.name,
        "group": one.group,
        "help": one.help,
        "secret": one.secret,
        "problem": known.problems.get(f"setting:{one.name}", ""),
        "valid": f"setting:{one.name}" not in known.problems,
        "target": f"setting:{one.name}",
        "can_test": can_try(one.name) and bool(running.values.get(one.name)),
        "aliases": one.aliases,
    }
    option = known.live.get(one.name)
    if option is not None and live_row(one.name) is not None:
        return Row(value=display(live(one.name)), source=LIVE, place="every process, at once", edit="live", **common)
    service = known.services.get(place.partition(".")[0]) if place else None
    if service is not None and service.managed_by == ManagedBy.OPERATOR:
        text = _of_service(service, place.partition(".")[2], one.secret)
        common |= {"target": f"service:{service.name}", "field": place.partition(".")[2], "can_test": service.enabled}
        return Row(value=text, source=SERVICE, place=f"service {service.name}", edit="service", **common)
    source = running.places.get(one.name, DEFAULT)
    where = {
        ENVIRONMENT: running.sources[one.name],
        FILE: str(configuration().env_file()),
        SECRET_FILE: running.sources[one.name],
        GENERATED: "DATA_DIR/keys",
    }.get(source, "")
    pending = ""
    if configured.values.get(one.name) != running.values.get(one.name) and FILE in (
        configured.places.get(one.name),
        source,
    ):
        pending = f"{display(configured.values.get(one.name)) or 'empty'} from the next start"
    reason = "" if option is not None else edit.why_not(one.name, "…", reading=configured)
    way = "live" if option is not None else "" if reason else "file"
    value = display(running.values.get(one.name))
    return Row(value=value, source=source, place=where, edit=way, why_not=reason, pending=pending, **common)


def _live_only(option: LiveOption) -> Row:
    changed = live_row(option.key)
    return Row(
        name=option.key,
        group="Live",
        help=option.help,
        value=shown(live(option.key)),
        source=LIVE if changed is not None else DEFAULT,
        place=f"by {changed.changed_by}" if changed is not None else "",
        edit="live",
        target=f"setting:{option.key}",
    )


def _unknown(problems: Mapping[str, str], names: set[str]) -> list[Row]:
    """Variables that look like ours and are none."""
    found = []
    for target, sentence in problems.items():
        name = target.removeprefix("setting:")
        if target.startswith("setting:") and name and name not in names:
            reason = edit.why_not(name, "…")
            found.append(
                Row(
                    name=name,
                    group="Unknown names",
                    help="",
                    value="",
                    source=FILE if not reason else ENVIRONMENT,
                    valid=False,
                    problem=sentence,
                    edit="" if reason else "file",
                    why_not=reason,
                    target=target,
                )
            )
    return found


def _service_rows(service: Service, problem: str) -> list[Row]:
    kind = service_kind(service.kind)
    by_environment = service.managed_by == ManagedBy.ENVIRONMENT
    why = "The environment manages this service; change the setting that fills it." if by_environment else ""
    fields = [ServiceField("base_url", "Address")] if kind is None or kind.needs_address or service.base_url else []
    if kind is not None and kind.role == "backend" and fields:
        fields.append(
            ServiceField(
                "proxy", "Proxy", "Asked through this proxy, whatever the environment says; empty and set: directly."
            )
        )
    found = []
    for one in [*fields, *(kind.fields if kind is not None else ())]:
        path = one.name if one.name == "base_url" else f"{'credentials' if one.secret else 'options'}.{one.name}"
        mine = path in problem or (one.name == "base_url" and bool(problem) and "options." not in problem)
        found.append(
            Row(
                name=f"{service.name}.{path}",
                group="Services",
                help=one.help or one.label,
                value=_of_service(service, path, one.secret),
                source=SERVICE,
                place=f"service {service.name}, managed by {'the environment' if by_environment else 'an operator'}",
                secret=one.secret,
                valid=not mine,
                problem=problem if mine else "",
                edit="" if by_environment else "service",
                why_not=why,
                target=f"service:{service.name}",
                field=path,
                can_test=service.enabled and one.name in ("base_url", "proxy"),
            )
        )
    return found


def _of_service(service: Service, path: str, secret: bool) -> str:
    place, _, key = path.partition(".")
    if not key:
        return mask_address(str(getattr(service, place))) if getattr(service, place) else ""
    try:
        value = (getattr(service, place) or {}).get(key)
    except SecretUnreadable:
        return "cannot be read: its key is missing"
    return mask(value) if secret else shown(value)
