"""Real processes over a real PostgreSQL and Redis: killed, missed, started again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.ops.doctor.processes.house import House
from tests.peers.base import ended
from tests.peers.switchboard import Stack
from tests.support.prepared import database_with_tables

pytestmark = [pytest.mark.e2e, pytest.mark.faults]


@pytest.fixture(scope="module")
def house(postgres: Any, redis_server: Any) -> Iterator[House]:
    redis_server.client().flushall()
    postgres.drop_database("processes")
    stack = Stack(
        database_url=database_with_tables(postgres, "processes"),
        redis_url=redis_server.url,
        concurrency=4,
        settings={"PROCESS_MANAGER": "local"},
    )
    stack.prepare()
    stack.start()
    one = House(stack)
    try:
        one.wait(
            "result = [role for role in expected_roles() if not any(one['ready'] for one in there(role))]",
            lambda missing: missing == [],
        )
        yield one
    finally:
        one.end()


def test_all_of_it_reports_and_is_ready(house: House) -> None:
    rows = house.ask(
        "result = [[r.role, r.version, r.python, r.packages_digest, r.database, r.settings_seen['REDIS_URL'], r.rss_bytes, r.threads,"
        " r.open_files, [one['port'] for one in r.ports], len(r.samples), r.ready_after_seconds] for r in alive()]"
    )
    assert sorted(row[0] for row in rows) == ["beat", "web", "worker"]
    # The same code, the same packages, the same database, the same settings.
    assert len({tuple(row[1:6]) for row in rows}) == 1
    assert all(row[6] > 20_000_000 and row[7] > 1 and row[8] > 3 and row[10] >= 1 and row[11] > 0 for row in rows)
    assert {row[0]: row[9] for row in rows}["web"] == [house.stack.port]
    status = house.stack.manage("stack", "status")
    assert [line.split()[0] for line in status.stdout.splitlines()[1:]] == [
        "database",
        "broker",
        "web",
        "worker",
        "beat",
    ]
    again = house.ask("result = mend('stack.start')")
    assert again["state"] == "unneeded"


def test_a_killed_worker_is_missed_by_the_others_restarted_and_green(house: House) -> None:
    before = house.ask("result = look()")
    red = {place for place, status in before.items() if status in ("fail", "warn", "blocked")}
    assert house.stack.manage("healthcheck", "--service", "worker").returncode == 0

    house.kill("worker")

    said = house.stack.manage("healthcheck", "--service", "worker", check=False)
    assert said.returncode == 1
    assert "No worker" in said.stderr
    # Nobody runs the checks now: the web server and beat notice that no worker is left.
    house.wait("result = Issue.objects.filter(check_id='svc.down').count()", lambda count: count == 1)
    issue = house.ask(
        "i = Issue.objects.get(check_id='svc.down')\n"
        "result = [i.sentence, i.fix, i.evidence['missing'], [one.target for one in i.affected.all()], i.root_id]"
    )
    assert "There is no worker any more" in issue[0]
    assert "ended without a word" in issue[0]
    assert issue[1]["repair"] == "service.restart"
    assert issue[2:] == [["worker"], ["role:worker"], None]
    # One cause, one red check; what hangs on it is blocked.
    after = house.ask("result = look()")
    fresh = {p: s for p, s in after.items() if s in ("fail", "warn", "blocked") and p not in red}
    assert fresh.pop("svc.down") == "fail"
    assert set(fresh.values()) <= {"blocked"}, fresh
    assert "worker.alive" in fresh

    plan = house.ask(
        "p = repair_plan(repair_id='service.restart', target='role:worker', actor='proof')\nresult = p.to_dict()"
    )
    assert [(one["target"], one["before"], one["after"]) for one in plan["changes"]] == [
        ("role:worker", "not running", "running")
    ]
    done = house.ask(
        "result = [mend('service.restart', 'role:worker'), look('svc.down', 'worker.alive'), there('worker')]"
    )
    assert done[0]["state"] == "succeeded", done
    assert "is ready after" in done[0]["receipt"]["role:worker"]
    assert done[1]["svc.down"] == "pass"
    assert len(done[2]) == 1
    assert done[2][0]["ready"]
    assert house.ask("result = mend('service.restart', 'role:worker')")["state"] == "unneeded"
    house.wait("result = look('worker.alive')['worker.alive']", lambda status: status == "pass")
    assert house.stack.manage("healthcheck", "--service", "worker").returncode == 0
    assert house.ask("result = str(Issue.objects.get(check_id='svc.down').state)") == "resolved"


def test_a_worker_is_recycled_after_its_work_and_says_why_it_ended(house: House) -> None:
    (old,) = house.ask("result = there('worker')")
    done = house.ask("result = [mend('service.recycle', 'role:worker', force=True), there('worker')]")
    assert done[0]["state"] == "succeeded", done
    assert [row["name"] for row in done[1]] != [old["name"]]
    said = house.ask(
        f"p = Process.objects.get(pk={old['name']!r})\n"
        "result = [p.ended_at is not None, p.end_reason, AuditEvent.objects.filter(action='process.drain').count()]"
    )
    assert said == [True, "Asked to end by proof.", 1]
    # It says that it ends while it still can, and is gone a moment later.
    assert ended(old["pid"])


def test_a_web_server_that_hangs_is_told_apart_and_restarted(house: House) -> None:
    house.kill("web", signal.SIGSTOP)
    # It still reports as alive for half a minute; asking it tells.
    found = house.ask("result = [look('api.down'), look('svc.down'), Process.objects.get(role='web').pid]")
    assert found[0]["api.down"] == "fail"
    assert found[1]["svc.down"] == "pass"
    assert house.stack.manage("healthcheck", "--service", "web", check=False).returncode == 1
    done = house.ask("result = [mend('service.restart', 'role:web'), look('api.down'), there('web')]")
    assert done[0]["state"] == "succeeded", done
    assert done[1]["api.down"] == "pass"
    assert done[2][0]["pid"] != found[2]
    assert house.stack.manage("healthcheck", "--service", "web").returncode == 0
    house.stack.web.kill9()


def test_a_killed_web_server_is_started_again_and_answers(house: House) -> None:
    house.kill("web")
    found = house.ask(
        "from datetime import timedelta\n"
        "for row in Process.objects.filter(role='web', ended_at=None):\n"
        "    row.seen_at -= timedelta(seconds=25)\n"
        "    row.save()\n"
        "result = [look('api.down', 'svc.down'), mend('service.restart', 'role:web'), look('api.down')]"
    )
    assert found[0] == {"api.down": "fail", "svc.down": "pass"}
    assert found[1]["state"] == "succeeded", found
    assert found[2] == {"api.down": "pass"}


def test_what_was_forgotten_at_the_start_is_brought_up(house: House) -> None:
    house.kill("beat")
    # The others run since ten minutes, and beat was last seen before that.
    house.ask(
        "from datetime import timedelta\nfrom django.utils import timezone\nnow = timezone.now()\n"
        "Process.objects.exclude(role='beat').exclude(pk__in=[row.pk for row in alive()]).delete()\n"
        "Process.objects.exclude(role='beat').update(started_at=now - timedelta(minutes=10))\n"
        "Process.objects.filter(role='beat').update(started_at=now - timedelta(hours=1), seen_at=now - timedelta(hours=1))"
    )
    found = house.ask("result = look('svc.down', 'svc.stack_start')")
    assert found == {"svc.down": "pass", "svc.stack_start": "fail"}
    assert house.stack.manage("stack", "status", check=False).returncode == 2
    done = house.stack.manage("stack", "start", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert house.ask("result = [look('svc.stack_start'), mend('stack.start')['state']]") == [
        {"svc.stack_start": "pass"},
        "unneeded",
    ]


def test_without_a_manager_the_command_is_shown_and_nothing_is_done(house: House) -> None:
    house.kill("beat")
    said = house.ask(
        "from django.conf import settings\n"
        "from ops.doctor.guides import guide_for\n"
        "settings.PROCESS_MANAGER = 'none'\n"
        "result = [mend('service.restart', 'role:beat'), guide_for('svc.down', '', {'missing': ['beat']}).to_dict(), there('beat')]\n"
        "settings.PROCESS_MANAGER = 'local'"
    )
    assert said[0]["state"] == "refused"
    assert "-m celery -A controlplane beat" in said[0]["error"]
    assert "-m celery -A controlplane beat" in said[1]["steps"][0]["snippet"]
    assert said[2] == []
    assert house.ask("result = [mend('stack.start')['state'], look('svc.down')]") == ["succeeded", {"svc.down": "pass"}]
