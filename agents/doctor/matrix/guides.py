"""What has to be done on the homeserver itself, in steps for this installation. No guide holds a token."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from agents.doctor.matrix.common import server_name_of, service_named
from agents.matrix.admin.ways import ADMIN_ROOM_SERVERS, LABELS
from agents.services.backends import mode_of
from agents.services.homeserver_admin import facts
from agents.services.homeserver_probe import stored_flavour
from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.models import Service


def _service(target: str) -> Service | None:
    return service_named(target)


def _manage(arguments: str) -> str:
    return f"cd {settings.BASE_DIR} && {sys.executable} manage.py {arguments}"


def _address(service: Service | None) -> str:
    return service.base_url if service is not None else "http://127.0.0.1:8008"


def _is_tuwunel(service: Service | None) -> bool:
    return service is not None and stored_flavour(service).get("name") not in (None, "", "synapse", "unknown")


def _ask_versions(url: str) -> GuideStep:
    return GuideStep(
        "See whether it answers, from the machine on which Switchboard runs.", f"curl -sS {url}/_matrix/client/versions"
    )


@register_guide("matrix.hs_process_down")
def start_it(target: str, evidence: dict[str, Any]) -> Guide:
    """How the homeserver's process is started, by what is known of it."""
    service = _service(target)
    url = _address(service)
    host = urlsplit(url).hostname or "the homeserver's host"
    steps: list[GuideStep] = []
    if service is not None and service.options.get("local"):
        folder = settings.DATA_DIR / "homeserver"
        steps.append(
            GuideStep(
                "It is the local homeserver, which `up` starts and starts again when it dies. Start Switchboard anew if it does not run.",
                _manage("up"),
            )
        )
        steps.append(GuideStep("Its log says why it ended.", f"tail -n 50 {folder}/homeserver.log"))
    else:
        unit = "tuwunel" if _is_tuwunel(service) else "matrix-synapse"
        steps.append(
            GuideStep(
                f"Start it on {host}, if systemd looks after it.",
                f"sudo systemctl start {unit}\nsudo journalctl -u {unit} -n 50",
                place=host,
            )
        )
        steps.append(
            GuideStep(
                "Or, if it is a container.",
                f"docker ps -a --filter name={unit.removeprefix('matrix-')}\ndocker start <its name>",
                place=host,
            )
        )
    steps.append(_ask_versions(url))
    last = evidence.get("last_answer_at")
    return Guide(
        "Start the homeserver",
        f"{host} is up and refuses connections on the homeserver's port"
        + (f"; it answered last at {last}." if last else "."),
        tuple(steps),
    )


@register_guide("matrix.hs_unreachable")
def reach_it(target: str, evidence: dict[str, Any]) -> Guide:
    """What to look at, by the stage at which it ended."""
    service = _service(target)
    url = _address(service)
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    stage = str(evidence.get("stage") or "")
    by_stage = {
        "dns": GuideStep(
            f"Look up {host}; correct the name server's answer, or the address below.", f"getent hosts {host}"
        ),
        "address": GuideStep("The address is none: correct it.", _manage("doctor config")),
        "tcp": GuideStep(
            f"Let the connection through: the host must be up, and port {port} open towards this machine.",
            f"ping -c 3 {host}\nnc -vz {host} {port}\n# on {host}:\nsudo ufw allow {port}/tcp",
        ),
        "tls": GuideStep(
            "Look at the certificate: name, validity, and who signed it.",
            f"openssl s_client -connect {host}:{port} -servername {host} </dev/null | openssl x509 -noout -subject -issuer -dates",
        ),
        "proxy": GuideStep(
            "Let this host bypass the proxy, then start Switchboard anew.", f"NO_PROXY={host}", "ini", ".env"
        ),
        "http": GuideStep(
            "What is in front of the homeserver answers instead of it: look at its log and at what it passes on to.",
            "location /_matrix {\n    proxy_pass http://127.0.0.1:8008;\n    proxy_set_header Host $host;\n    client_max_body_size 50M;\n}",
            "nginx",
            f"nginx on {host}",
        ),
    }
    steps = [by_stage[stage]] if stage in by_stage else [by_stage["dns"], by_stage["tcp"]]
    return Guide("Reach the homeserver", f"No answer comes from {url}.", (*steps, _ask_versions(url)))


@register_guide("matrix.hs_url_wrong")
def right_address(target: str, evidence: dict[str, Any]) -> Guide:
    """Where the address stands, and the one to put there."""
    service = _service(target)
    url, candidate = _address(service), str(evidence.get("candidate") or "")
    wanted = candidate or "http://127.0.0.1:8008"
    place = (
        GuideStep(
            "Set it in the environment; it wins at every start.", f"MATRIX_HOMESERVER_URL={wanted}", "ini", ".env"
        )
        if service is not None and service.managed_by == "environment"
        else GuideStep("Set it at the service in the admin: Services, homeserver, address.", wanted, "text")
    )
    return Guide(
        "Correct the homeserver's address",
        f"{url} answers, but not Matrix." + (f" A candidate that works: {candidate}." if candidate else ""),
        (_ask_versions(url), place),
    )


@register_guide("matrix.login_failed")
def install_registration(target: str, evidence: dict[str, Any]) -> Guide:
    """How our registration gets to the homeserver. The file is written by a command, so that no token is shown here."""
    service = _service(target)
    if service is not None and mode_of(service) == "client":
        return _open_our_session(evidence)
    file = "/etc/matrix-synapse/switchboard.yaml"
    if service is not None and service.options.get("local"):
        steps = [
            GuideStep(
                "The local homeserver's registration is written at every start of `up`. Stop Switchboard (Ctrl-C) and start it again.",
                _manage("up"),
            )
        ]
    elif _is_tuwunel(service):
        steps = [
            GuideStep(
                "Print the command, and send what it prints in the admin room (#admins). No restart is needed.",
                _manage("registration --tuwunel"),
            ),
        ]
    else:
        steps = [
            GuideStep(
                "See whether the installed registration differs from ours.", _manage(f"registration --compare {file}")
            ),
            GuideStep("Write ours, where the homeserver's user may read it.", _manage(f"registration --output {file}")),
            GuideStep("Name the file.", f"app_service_config_files:\n  - {file}", "yaml", "homeserver.yaml"),
            GuideStep("Restart it: registrations are read at the start only.", "sudo systemctl restart matrix-synapse"),
        ]
    errcode = evidence.get("errcode")
    why = (
        f"The homeserver refuses our token ({errcode})."
        if errcode
        else "The homeserver has another registration than we have."
    )
    return Guide("Install our registration on the homeserver", why, tuple(steps))


def _open_our_session(evidence: dict[str, Any]) -> Guide:
    """Client mode: what opens a session for Switchboard's own account."""
    steps = (
        GuideStep(
            "Give its password, or an access token of it.",
            "MATRIX_USERNAME=switchboard\nMATRIX_PASSWORD=",
            "ini",
            ".env",
        ),
        GuideStep(
            "Or give what makes and mends accounts there: an administrator, a registration token, or Synapse's shared secret.",
            "MATRIX_ADMIN_TOKEN=\nMATRIX_REGISTRATION_TOKEN=\nMATRIX_REGISTRATION_SHARED_SECRET=",
            "ini",
            ".env",
        ),
        GuideStep(
            "Start Switchboard anew, or enter it here under “Renew the token”.", _manage("doctor matrix.login_failed")
        ),
    )
    errcode = evidence.get("errcode")
    return Guide(
        "Open a session for Switchboard's own account",
        f"In client mode it listens for all agents, and it has no session{f' ({errcode})' if errcode else ''}.",
        steps,
    )


@register_guide("matrix.hs_flavour")
def what_it_cannot(target: str, evidence: dict[str, Any]) -> Guide:
    """What this homeserver does not serve, why, and what is done instead."""
    service = _service(target)
    cannot = evidence.get("cannot")
    known = cannot if isinstance(cannot, dict) else {}
    named = f"{evidence.get('flavour') or 'unknown'} {evidence.get('version') or ''}".strip().capitalize()
    steps = [GuideStep(f"{name}: {why}") for name, why in sorted(known.items())]
    if "make_users" in known and evidence.get("flavour") in ADMIN_ROOM_SERVERS:
        steps.append(
            GuideStep(
                "Make people's accounts in its admin room instead; with an administrator's token or password we do it.",
                "!admin users create-user <name>",
                "text",
                "#admins",
            )
        )
    if service is not None:
        found = facts(service).ways.values()
        steps += [GuideStep(f"{LABELS[way.ability]}: {way.sentence}") for way in found if not way.works]
    secret = evidence.get("secret")
    if isinstance(secret, dict) and secret.get("works") is False:
        steps.append(
            GuideStep("Remove the secret that it does not take.", "MATRIX_REGISTRATION_SHARED_SECRET=", "ini", ".env")
        )
    return Guide(
        "What this homeserver cannot do",
        f"{named} answers at {_address(service)}. Agents' accounts and rooms need the appservice only; the rest is optional.",
        tuple(steps),
    )


@register_guide("identity.token_invalid")
def let_us_speak(target: str, evidence: dict[str, Any]) -> Guide:
    """What an administrator of the homeserver does for accounts as which we may not speak."""
    service = _service(target)
    refused = evidence.get("refused") or []
    first = refused[0] if isinstance(refused, list) and refused and isinstance(refused[0], dict) else {}
    user = str(
        first.get("user_id") or f"@agent_example:{server_name_of(service) if service is not None else 'example.org'}"
    )
    if service is not None and mode_of(service) == "client":
        return Guide(
            "Open these accounts' sessions",
            f"{user} and others have no session on the homeserver, and nothing that was given opens one.",
            (
                GuideStep(
                    "Give what mends accounts there: an administrator, best as a token.",
                    "MATRIX_ADMIN_TOKEN=",
                    "ini",
                    ".env",
                ),
                GuideStep(
                    "Or enter the account's password: Accounts in the admin. Then put it right here.",
                    _manage("repair identity.relogin"),
                ),
            ),
        )
    prefix = (service.options.get("user_prefix") if service is not None else "") or settings.MATRIX_USER_PREFIX
    steps = (
        GuideStep(
            "Compare the namespace in the installed registration with ours: it has to cover every account of an agent.",
            f"namespaces:\n  users:\n    - exclusive: true\n      regex: '@{prefix}.*:{server_name_of(service) if service is not None else ''}'",
            "yaml",
            "the registration on the homeserver",
        ),
        GuideStep(
            f"If {user} is suspended or locked, lift that (Synapse; with the token of an administrator in $ADMIN).",
            f'curl -sS -X PUT -H "Authorization: Bearer $ADMIN" -d \'{{"locked": false}}\' \\\n'
            f"  {_address(service)}/_synapse/admin/v2/users/{user}\n"
            f'curl -sS -X PUT -H "Authorization: Bearer $ADMIN" -d \'{{"suspend": false}}\' \\\n'
            f"  {_address(service)}/_synapse/admin/v1/suspend/{user}",
        ),
    )
    return Guide(
        "Let us speak as these accounts", "The homeserver has the accounts and refuses to let us speak as them.", steps
    )


@register_guide("homeserver.reachable")
def let_it_reach_us(target: str, evidence: dict[str, Any]) -> Guide:
    """What to look at when the homeserver answers us and does not reach us."""
    service = _service(target)
    url = settings.MATRIX_APPSERVICE_URL
    parts = urlsplit(url)
    steps = [
        GuideStep(
            "On the homeserver's machine, see whether it reaches Switchboard. Any answer will do, also a refusal (403).",
            f"curl -sS -X POST {url}/_matrix/app/v1/ping -d '{{}}'",
            place="the homeserver's machine",
        ),
        GuideStep(
            "If nothing answers, give the address at which it does, and start Switchboard anew.",
            f"MATRIX_APPSERVICE_URL=http://<this machine, as the homeserver sees it>:{parts.port or settings.PORT}",
            "ini",
            ".env",
        ),
        *install_registration(target, {}).steps,
    ]
    return Guide(
        "Let the homeserver reach us",
        f"{_address(service)} answers, but what people say does not arrive here: the homeserver sends it to {url}, the url in its "
        "registration, with the hs_token in it.",
        tuple(steps),
    )
