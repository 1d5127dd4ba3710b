"""The benchmarks are all there, and what they find is written down completely. No time is asserted here."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench.bridge_latency import _hops
from bench.measure import PROJECT, median, percentile, spread
from bench.registry import get, names
from bench.results import WIDTH, Figure, Report, table, write

EXPECTED = {
    "sync.unchanged", "sync.create", "sync.lazy", "bridge.latency", "bridge.throughput", "bridge.peers", "turn.engine", "start", "api.list",
    "socket.first_token", "socket.stream", "socket.idle", "admin.lists", "backup",
}  # fmt: skip


def test_every_benchmark_is_registered_and_can_be_run():
    assert set(names()) >= EXPECTED
    for name in names():
        assert callable(get(name).load())


def test_list_names_them_all_and_an_unknown_name_is_refused():
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bench", *arguments]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)

    listed = call("list")
    assert listed.returncode == 0
    assert {line.split()[0] for line in listed.stdout.splitlines()} == set(names())
    refused = call("nonsense")
    assert refused.returncode == 2
    assert "nonsense" in refused.stderr


def _report() -> Report:
    return Report(
        "some.thing",
        sizes={"agents": 10},
        figures=[
            Figure("slower than its floor", 3.0, "s", floor=2.0, target=1.2),
            Figure("as fast as it must be", 90.0, "/s", floor=100.0, target=0.9, sense=">="),
            Figure("the value counts although there is a floor", 4.0, "s", floor=1.0, target=5.0, of_ratio=False),
            Figure("nothing written", 0, target=0, sense="=="),
            Figure("only told, and with a name that is too long for one line of the table", 1234567.0, "ms"),
        ],
        notes=["A sentence."],
        versions={"synapse": "1"},
    )


def test_a_result_holds_everything_needed_to_judge_it(tmp_path):
    path = write(_report(), size="small", folder=tmp_path)
    found = json.loads(path.read_text())
    assert path.name == "some.thing.json"
    assert [figure["reached"] for figure in found["figures"]] == [False, True, True, True, None]
    assert [figure["ratio"] for figure in found["figures"]] == [1.5, 0.9, 4.0, None, None]
    assert found["reached"] is False
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["python"]
    assert {"django", "celery", "synapse"} <= set(found["versions"])
    assert found["sizes"] == {"agents": 10}


def test_a_full_run_does_not_replace_a_small_one(tmp_path):
    paths = {write(_report(), size=size, folder=tmp_path) for size in ("small", "full")}
    assert len(paths) == 2


def test_the_table_fits_a_terminal():
    lines = table(_report(), size="small").splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert any("NO" in line for line in lines)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([1.0], 0.99, 1.0), ([3, 1, 2], 0.5, 2), (range(1, 101), 0.99, 99), (range(1, 101), 1.0, 100)],
)
def test_percentiles_are_values_that_occurred(values, share, expected):
    assert percentile(values, share) == expected


def test_median_and_spread():
    assert median([4, 1, 3, 2]) == 2.5
    assert spread([]) == {"n": 0}
    assert spread([2.0, 1.0])["max"] == 2.0


def test_hops_count_what_was_lost_or_doubled():
    def said(number: int, *sent: float) -> dict[str, object]:
        return {"number": number, "pushed": 1.0, "answered": 1.01, "sent": list(sent)}

    asked = {1: [(1.005, 1.006)], 2: [(1.005, 1.006)], 3: [(1.005, 1.006), (1.1, 1.2)]}
    found = _hops([said(1, 1.010), said(2, 1.010, 1.020), said(3, 1.3), said(4)], asked)
    assert found["wrong"] == 3
    assert found["in"][0] == pytest.approx(5)
    assert found["out"][0] == pytest.approx(4)
