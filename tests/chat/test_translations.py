"""German is complete: every sentence of the portal has a translation, and what is compiled is what is written.

The sentences are found as xgettext finds them, without needing it: Python by its syntax tree, templates through Django's own
``templatize``, scripts by their calls.
"""

from __future__ import annotations

import ast
import gettext
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.utils.translation.template import templatize

ROOT = Path(settings.BASE_DIR)
LOCALE = ROOT / "locale" / "de" / "LC_MESSAGES"
NAMES = {"gettext", "gettext_lazy", "_", "gettext_noop"}
PLURALS = {"ngettext", "ngettext_lazy"}
Sentence = str | tuple[str, str]


def of_python(source: str) -> set[Sentence]:
    found: set[Sentence] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        texts = [one.value for one in node.args[:2] if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        if name in NAMES and texts:
            found.add(texts[0])
        elif name in PLURALS and len(texts) == 2:
            found.add((texts[0], texts[1]))
    return found


_TEXT = r"""u?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_ONE = re.compile(r"(?<![\w.])(?:gettext|_)\(" + _TEXT + r"\)")
_MANY = re.compile(r"(?<![\w.])ngettext\(" + _TEXT + r",\s*" + _TEXT)


def of_template(source: str) -> set[Sentence]:
    made = templatize(source)
    found: set[Sentence] = {ast.literal_eval(one) for one in _ONE.findall(made)}
    return found | {(ast.literal_eval(one), ast.literal_eval(many)) for one, many in _MANY.findall(made)}


_JS_ONE = re.compile(r"(?<!\w)gettext\(" + _TEXT)


def of_script(source: str) -> set[Sentence]:
    found: set[Sentence] = {ast.literal_eval(one) for one in _JS_ONE.findall(source)}
    return found | {(ast.literal_eval(one), ast.literal_eval(many)) for one, many in _MANY.findall(source)}


def written(domain: str) -> dict[Sentence, tuple[str, ...]]:
    """What a .po file holds; it fails on an entry that is marked fuzzy."""
    entries: dict[Sentence, tuple[str, ...]] = {}
    for block in (LOCALE / f"{domain}.po").read_text().split("\n\n"):
        assert "fuzzy" not in block, block
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            match = re.match(r"(msg\w+(?:\[\d\])?) (\".*\")$", line)
            if match:
                name = match.group(1)
                fields[name] = ast.literal_eval(match.group(2))
            elif line.startswith('"'):
                fields[name] += ast.literal_eval(line)
        if "msgid" not in fields or fields["msgid"] == "":
            continue
        if "msgid_plural" in fields:
            entries[fields["msgid"], fields["msgid_plural"]] = (fields["msgstr[0]"], fields["msgstr[1]"])
        else:
            entries[fields["msgid"]] = (fields["msgstr"],)
    return entries


def portal_sentences() -> set[Sentence]:
    found: set[Sentence] = set()
    for path in ROOT.glob("chat/**/*.py"):
        found |= of_python(path.read_text())
    for path in ROOT.glob("templates/**/*.html"):
        if path.relative_to(ROOT).parts[1] not in {"switchboard", "unfold", "admin", "setup"}:
            found |= of_template(path.read_text())
    for path in ROOT.glob("templates/**/*.txt"):
        found |= of_template(path.read_text())
    return found


def script_sentences() -> set[Sentence]:
    found: set[Sentence] = set()
    for path in ROOT.glob("static/portal/**/*.js"):
        found |= of_script(path.read_text())
    return found


def marks(text: str) -> set[str]:
    return set(re.findall(r"%\(\w+\)[sd]", text))


@pytest.mark.parametrize(("domain", "sentences"), [("django", portal_sentences), ("djangojs", script_sentences)])
def test_every_sentence_is_there_in_german(domain, sentences):
    wanted = sentences()
    assert len(wanted) > 150
    known = written(domain)
    missing = {one for one in wanted if not all(known.get(one, ("",)))}
    assert not missing, f"Add these to locale/de/LC_MESSAGES/{domain}.po and compile it: {sorted(map(str, missing))}"


@pytest.mark.parametrize("domain", ["django", "djangojs"])
def test_places_for_values_survive_translation(domain):
    for sentence, translations in written(domain).items():
        originals = (sentence,) if isinstance(sentence, str) else sentence
        for original, translation in zip(originals, translations, strict=True):
            assert marks(original) == marks(translation), original


@pytest.mark.parametrize("domain", ["django", "djangojs"])
def test_what_is_compiled_is_what_is_written(domain):
    with (LOCALE / f"{domain}.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for sentence, translations in written(domain).items():
        if isinstance(sentence, str):
            assert compiled.gettext(sentence) == translations[0], f"compile {domain}.po: {sentence}"
        else:
            assert tuple(compiled.ngettext(*sentence, number) for number in (1, 2)) == translations
