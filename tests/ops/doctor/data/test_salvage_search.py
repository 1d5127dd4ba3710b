"""A search index in a damaged file is made anew from the rows that it is about."""

from __future__ import annotations

import sqlite3

from ops.doctor_data.salvage import salvage


def test_a_search_index_is_made_anew(tmp_path):
    damaged, target = tmp_path / "old.sqlite3", tmp_path / "new.sqlite3"
    with sqlite3.connect(damaged) as old:
        old.execute("CREATE TABLE said (id INTEGER PRIMARY KEY, text TEXT)")
        old.execute(
            "CREATE VIRTUAL TABLE parts USING fts5(text, content='said', content_rowid='id', tokenize='trigram')"
        )
        old.execute(
            "CREATE TRIGGER added AFTER INSERT ON said BEGIN INSERT INTO parts(rowid, text) VALUES (new.id, new.text); END"
        )
        old.executemany("INSERT INTO said (text) VALUES (?)", [("needle in hay",), ("only hay",)])
    old.close()
    done = salvage(damaged, target)
    assert done.rows == {"said": 2}
    assert not done.incomplete
    with sqlite3.connect(target) as new:
        new.execute("INSERT INTO said (text) VALUES ('another needle')")
        assert new.execute("SELECT rowid FROM parts WHERE parts MATCH 'needle' ORDER BY rowid").fetchall() == [
            (1,),
            (3,),
        ]
    new.close()
