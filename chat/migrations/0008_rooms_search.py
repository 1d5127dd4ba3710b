"""The databases' own indexes of parts of words (see ``chat.search.index``)."""

from __future__ import annotations

from typing import Any

from django.db import migrations

from chat.search import index


def install(apps: Any, schema_editor: Any) -> None:
    index.install(schema_editor.connection)


def remove(apps: Any, schema_editor: Any) -> None:
    index.remove(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("chat", "0007_turns_backend_ref")]
    operations = [migrations.RunPython(install, remove)]
