"""``docs/configuration.md``, made from the list of options."""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.env import Option
from controlplane.options import NOT_NEEDED, OPTIONS

_INTRODUCTION = """\
# Configuration

Made from `controlplane/options.py` by `python manage.py config_reference --write`.

Settings are read from the environment, then from a file `.env` beside `manage.py`. Nothing has to be set: a key that nobody
sets is generated once into `DATA_DIR/keys` (readable by its owner only) and stays. A **secret** is never shown, and is also
read from a file that `NAME_FILE` names. Names in *other names* mean the same; the first that is set counts.

`python manage.py check` reports values that cannot be used, placeholders, and names that Switchboard does not know.
"""


def reference(options: Iterable[Option] = OPTIONS) -> str:
    """The whole page in Markdown."""
    groups: dict[str, list[Option]] = {}
    for option in options:
        groups.setdefault(option.group, []).append(option)
    parts = [_INTRODUCTION]
    for group, members in groups.items():
        parts.append(f"## {group}\n")
        parts.append("| name | default | meaning | other names |")
        parts.append("|---|---|---|---|")
        parts += [_row(option) for option in members]
        parts.append("")
    parts.append("## No longer needed\n")
    parts.append("Names from other systems that are understood, and what takes their place:\n")
    parts += [f"* `{name}`: {text}" for name, text in NOT_NEEDED.items()]
    return "\n".join(parts) + "\n"


def _row(option: Option) -> str:
    meaning = option.help
    if option.secret:
        meaning += " **Secret.**"
    if option.choices:
        meaning += f" One of {', '.join(f'`{choice}`' for choice in option.choices)}."
    elif option.floor is not None and f"at least {option.floor:g}" not in option.help:
        meaning += f" At least {option.floor:g}."
    cells = (f"`{option.name}`", _default(option), meaning, ", ".join(f"`{name}`" for name in option.aliases))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(option: Option) -> str:
    if option.generate is not None:
        return "generated"
    value = option.default
    if option.name == "DATA_DIR":
        return "`var`"
    if value in ("", None, []):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
