"""Names that people give themselves: what may be in them, and what is quietly taken out."""

from __future__ import annotations

import re
import unicodedata

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.translation import gettext as _

SHORTEST, LONGEST = 3, 100
LONGEST_SHOWN = 150
LONGEST_EMAIL = 254
_USERNAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")
# Joiners hold emoji and several scripts together; every other invisible or direction-turning character goes.
_KEPT_FORMAT = {"\u200c", "\u200d"}


def clean_username(text: str) -> str:
    """The user name in the form in which it is kept. Raises ``ValidationError`` with a sentence."""
    name = text.strip().lower()
    if not SHORTEST <= len(name) <= LONGEST:
        raise ValidationError(
            _("A user name has %(least)d to %(most)d characters.") % {"least": SHORTEST, "most": LONGEST}
        )
    if not _USERNAME.match(name):
        raise ValidationError(_("Use letters a to z, digits, '.', '_' and '-'; begin with a letter or digit."))
    return name


def clean_display_name(text: str) -> str:
    """A name as others see it: without control characters and without what turns the direction of the text around. Raises
    ``ValidationError`` when it is too long."""
    kept = "".join(letter for letter in unicodedata.normalize("NFC", text) if _is_shown(letter))
    name = " ".join(kept.split())
    if len(name) > LONGEST_SHOWN:
        raise ValidationError(_("A name has at most %(most)d characters.") % {"most": LONGEST_SHOWN})
    return name if any(unicodedata.category(letter)[0] not in "CMZ" for letter in name) else ""


def clean_email(text: str) -> str:
    """An e-mail address in small letters, "" when none is given. Raises ``ValidationError`` with a sentence."""
    address = text.strip().lower()
    if not address:
        return ""
    sentence = _("This is not an e-mail address, which looks like name@example.org.")
    if len(address) > LONGEST_EMAIL or not address.isprintable():
        raise ValidationError(sentence)
    try:
        validate_email(address)
    except ValidationError:
        raise ValidationError(sentence) from None
    return address


def _is_shown(letter: str) -> bool:
    category = unicodedata.category(letter)
    if category == "Cf":
        return letter in _KEPT_FORMAT
    return category not in {"Cc", "Cs", "Co", "Cn"} or letter in "\t\n\r"
