"""Who holds up the database: long holders of SQLite's write lock, blocked statements of PostgreSQL, statements that gave up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from ops.doctor.guides import Guide, GuideStep, register_guide
from ops.doctor.repairs import Change, Plan, RepairFailed, RepairRefused, RepairWork, register_repair
from ops.doctor_data import lock_errors, sqlite
from ops.registry import Affected, CheckOutcome, Fix, ServiceField, register_check
from ops.services.audit import record
from ops.services.sightings import sightings_reopen, sightings_settle
from ops.words import counted

CHECK = "db.locked"
# Statements that gave up within the last hour.
MANY = 3
# Milliseconds that SQLite waits for a lock before a statement fails; ours wait 20 s.
LEAST_TIMEOUT = 5000
OUR_TIMEOUT = 20
WAIT = 5.0
_LONG_WAIT = 1.0
_WAITS = """
    SELECT w.pid, EXTRACT(EPOCH FROM clock_timestamp() - COALESCE(l.waitstart, w.query_start)), l.mode,
           COALESCE(l.relation::regclass::text, l.locktype), split_part(ltrim(w.query), ' ', 1),
           b.pid, b.state, EXTRACT(EPOCH FROM clock_timestamp() - b.xact_start), b.application_name,
           split_part(ltrim(b.query), ' ', 1)
    FROM pg_stat_activity w
    JOIN pg_locks l ON l.pid = w.pid AND NOT l.granted
    CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS blocker(pid)
    JOIN pg_stat_activity b ON b.pid = blocker.pid
    WHERE w.datname = current_database() AND clock_timestamp() - COALESCE(l.waitstart, w.query_start) > %s * interval '1 second'
    ORDER BY 2 DESC LIMIT 50
"""


@dataclass(frozen=True, slots=True)
class Wait:
    """One statement of PostgreSQL that waits for a lock. Of statements only the verb is kept: they hold people's words."""

    waiter: int
    seconds: float
    mode: str
    on: str
    verb: str
    blocker: int
    blocker_state: str
    blocker_seconds: float
    blocker_name: str
    blocker_verb: str

    def to_dict(self) -> dict[str, Any]:
        """JSON for the evidence: who waits how long, and for whom."""
        return {
            "waiter": self.waiter,
            "waits_seconds": round(self.seconds, 1),
            "for": f"{self.mode} on {self.on}",
            "statement": self.verb,
            "blocker": self.blocker,
            "blocker_state": self.blocker_state,
            "blocker_transaction_seconds": round(self.blocker_seconds, 1),
            "blocker_application": self.blocker_name,
            "blocker_statement": self.blocker_verb,
        }


@register_check(
    CHECK,
    title="Nobody holds up the database",
    tags=("database", "data"),
    interval=60,
    timeout=20,
    depends_on=("db.reachable",),
    repairs=("db.tune", "db.unblock"),
)
def locked() -> CheckOutcome:
    """SQLite: WAL, the time that statements wait, how long it takes to get the write lock, statements that gave up. PostgreSQL: waits
    of more than five seconds with whoever causes them.

    A file that another program has switched away from WAL is switched back by the next connection that we open, so seeing it here
    means that it cannot be switched (a network file system, for example).
    """
    return _sqlite() if sqlite.is_sqlite() else _postgresql()


def _sqlite() -> CheckOutcome:
    waited = sqlite.wait_for_write_lock(WAIT)
    holders = sqlite.holders() if waited is None else []
    evidence: dict[str, Any] = {**_tuning(), "failed_last_hour": lock_errors.counted_lately()}
    if waited is None:
        names = [f"{one.program} (process {one.pid})" for one in holders]
        evidence |= {"holders": [{"pid": one.pid, "program": one.program, "ours": one.is_us} for one in holders]}
        who = " and ".join(names) or "Somebody"
        return CheckOutcome(
            "fail",
            f"{who} has held the database's write lock for more than {WAIT:g} s: nothing can be stored meanwhile. End it; the guide "
            "says how.",
            evidence,
        )
    evidence["waited_ms"] = round(waited * 1000, 1)
    wrong = _wrong(evidence)
    if wrong:
        return CheckOutcome("fail", f"{wrong} Writers then fail where they should wait.", evidence, fix=Fix("db.tune"))
    failed = evidence["failed_last_hour"]
    if failed >= MANY:
        return CheckOutcome(
            "fail",
            f"{counted(failed, 'statement')} failed within the hour because the database was locked. Several writers or one long transaction; "
            "tune it, and move to PostgreSQL if it comes back.",
            evidence,
            fix=Fix("db.tune"),
        )
    if waited > _LONG_WAIT:
        return CheckOutcome("warn", f"It took {waited:.1f} s to get the database's write lock.", evidence)
    return CheckOutcome("pass", f"The write lock was had in {waited * 1000:.0f} ms.", evidence)


def _tuning() -> dict[str, Any]:
    """What counts for connections of this process."""
    # Ours first: a connection of ours sets WAL, and only what it cannot set is worth a word.
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        timeout = int(cursor.fetchone()[0])
    with sqlite.raw(read_only=True) as connection:
        mode = str(sqlite.pragma(connection, "journal_mode")).lower()
    return {"journal_mode": mode, "busy_timeout_ms": timeout}


def _wrong(evidence: dict[str, Any]) -> str:
    if evidence["journal_mode"] != "wal":
        return f"SQLite's journal mode is {evidence['journal_mode']}, not WAL: readers and writers hold each other up."
    if evidence["busy_timeout_ms"] < LEAST_TIMEOUT:
        return f"Statements wait {evidence['busy_timeout_ms']} ms for a lock; at least {LEAST_TIMEOUT} are needed."
    return ""


def _postgresql() -> CheckOutcome:
    found = waits()
    evidence: dict[str, Any] = {
        "waits": [one.to_dict() for one in found],
        "failed_last_hour": lock_errors.counted_lately(),
    }
    if not found:
        failed = evidence["failed_last_hour"]
        if failed >= MANY:
            sentence = f"{counted(failed, 'statement')} failed within the hour because of locks (time-outs, deadlocks)."
            return CheckOutcome("warn", sentence, evidence, fix=Fix("db.tune"))
        return CheckOutcome("pass", f"No statement waits for more than {WAIT:g} s.", evidence)
    roots = _roots(found)
    first = max(found, key=lambda one: one.seconds)
    root = next(one for one in found if one.blocker in roots)
    evidence["blockers"] = roots
    return CheckOutcome(
        "fail",
        f"{counted(len({one.waiter for one in found}), 'statement waits', 'statements wait')} for locks, the longest "
        f"for {first.seconds:.0f} s ({first.on}). Connection "
        f"{root.blocker} ({root.blocker_name or 'unnamed'}, {root.blocker_state}) holds them up: it can be ended.",
        evidence,
        tuple(Affected(f"backend:{pid}", f"Connection {pid} holds others up.") for pid in roots),
        Fix("db.unblock", params={"pid": roots[0]}),
    )


def waits(seconds: float | None = None) -> list[Wait]:
    """Statements of PostgreSQL that wait for a lock for longer than that (``WAIT`` when not given), the longest first."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(_WAITS, [WAIT if seconds is None else seconds])
        rows = cursor.fetchall()
    return [
        Wait(
            w, float(s), str(mode), str(on), str(verb)[:20], b, str(state or "?"), float(xact or 0), str(name or ""), str(bv)[:20]
        )
        for w, s, mode, on, verb, b, state, xact, name, bv in rows
    ]  # fmt: skip


def _roots(found: list[Wait]) -> list[int]:
    """Connections that block and wait for nobody themselves; of a circle all."""
    waiters = {one.waiter for one in found}
    blockers = list(dict.fromkeys(one.blocker for one in found))
    return [pid for pid in blockers if pid not in waiters] or blockers


# Tuning


def plan_tune(work: RepairWork) -> Plan:
    """What is not as it should be, and how many failures were counted."""
    changes: list[Change] = []
    if sqlite.is_sqlite():
        now = _tuning()
        if now["journal_mode"] != "wal":
            changes.append(Change("database", "journal_mode", now["journal_mode"], "wal"))
        if now["busy_timeout_ms"] < LEAST_TIMEOUT:
            changes.append(Change("database", "busy_timeout (ms)", now["busy_timeout_ms"], OUR_TIMEOUT * 1000))
    failed = lock_errors.counted_lately()
    if failed >= MANY:
        changes.append(Change("database", "failures that were counted", failed, 0))
    if not changes:
        return Plan("The database is tuned as it should be, and no statement gave up lately.")
    return Plan(
        "WAL and a waiting time are set, the WAL is written into the file, statistics are brought up to date, and the count begins "
        "anew.",
        tuple(changes),
    )


def apply_tune(work: RepairWork) -> dict[str, Any]:
    """Set it, for the file and for this process; the settings set the same for every process at its start."""
    receipt: dict[str, Any] = {}
    if sqlite.is_sqlite():
        options = connections[DEFAULT_DB_ALIAS].settings_dict.setdefault("OPTIONS", {})
        if float(options.get("timeout", 5)) * 1000 < LEAST_TIMEOUT:
            work.remember(timeout=options.get("timeout"))
            connections.settings[DEFAULT_DB_ALIAS].setdefault("OPTIONS", {})["timeout"] = OUR_TIMEOUT
            options["timeout"] = OUR_TIMEOUT
            connections.close_all()
        with sqlite.raw(timeout=OUR_TIMEOUT) as connection:
            mode = str(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]).lower()
            if mode != "wal":
                raise RepairFailed(
                    f"SQLite stays in the mode {mode}. Is the data directory on a network file system? WAL needs a local one."
                )
            busy, _, written = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            connection.execute("PRAGMA optimize")
        receipt = {"journal_mode": mode, "checkpoint": "busy" if busy else f"{written} pages"}
    else:
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute("ANALYZE")
    kinds = [lock_errors.KIND]
    rows = sightings_settle(service=lock_errors.SERVICE, kinds=kinds, actor=work.actor, note="The database was tuned.")
    work.remember(settled=rows)
    return {**receipt, "settled": len(rows)}


def undo_tune(work: RepairWork) -> None:
    """The failures count again, and a shorter waiting time is back in this process; WAL stays: the next connection would set it."""
    if "timeout" in work.snapshot:
        for options in (
            connections.settings[DEFAULT_DB_ALIAS]["OPTIONS"],
            connections[DEFAULT_DB_ALIAS].settings_dict["OPTIONS"],
        ):
            options["timeout"] = work.snapshot["timeout"]
        connections.close_all()
    sightings_reopen(rows=work.snapshot.get("settled", []), actor=work.actor)


register_repair(
    "db.tune",
    title="Tune the database",
    repair_class="A",
    button="Tune it",
    explain="Sets what lets several writers wait for each other instead of failing (WAL, waiting time), and counts failures anew.",
    plan=plan_tune,
    apply=apply_tune,
    undo=undo_tune,
)


# Ending the one that blocks


def plan_unblock(work: RepairWork) -> Plan:
    """The connection that blocks, if it still does."""
    if sqlite.is_sqlite():
        raise RepairRefused(
            "SQLite has no server that could end a connection: end the process; the guide of db.locked says how."
        )
    found = waits()
    if not found:
        return Plan("Nobody is held up any more.")
    wanted = int(work.params.get("pid") or 0) or _roots(found)[0]
    mine = [one for one in found if one.blocker == wanted]
    if not mine:
        raise RepairRefused(
            f"Connection {wanted} holds nobody up. Those that do: {', '.join(map(str, _roots(found)))}."
        )
    one = mine[0]
    return Plan(
        f"Connection {wanted} ({one.blocker_name or 'unnamed'}, {one.blocker_state}) is ended. Its transaction, "
        f"{one.blocker_seconds:.0f} s old, is rolled back, and {counted(len({w.waiter for w in mine}), 'statement goes', 'statements go')} on.",
        (Change(f"backend:{wanted}", "connection", one.blocker_state, None),),
        data={"pid": wanted},
    )


def apply_unblock(work: RepairWork) -> dict[str, Any]:
    """End it, by PostgreSQL's own function."""
    pid = int(work.plan.data["pid"])
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        gone = bool(cursor.fetchone()[0])
    if not gone:
        raise RepairFailed(
            f"PostgreSQL did not end connection {pid}. Its role may not; ask the server's administrator."
        )
    record(actor=work.actor, action="database.connection_ended", target=f"backend:{pid}")
    return {"ended": pid}


register_repair(
    "db.unblock",
    title="End the connection that holds others up",
    repair_class="C",
    button="End it",
    explain="PostgreSQL ends the connection and rolls its transaction back. Whoever used it gets an error and opens a new one.",
    plan=plan_unblock,
    apply=apply_unblock,
    fields=(ServiceField("pid", "Connection", "Its number. Empty: the one at the root.", kind="number"),),
    settles_after=3,
)


@register_guide(CHECK)
def guide(target: str, evidence: dict[str, Any]) -> Guide:
    """Ending a holder by hand, and where SQLite ends."""
    if not sqlite.is_sqlite():
        return Guide(
            "Free what waits for locks",
            "A transaction that stays open keeps its locks, and whoever needs them waits. PostgreSQL can end it by itself.",
            (
                GuideStep(
                    "Who waits for whom.",
                    "SELECT pid, pg_blocking_pids(pid), state, xact_start FROM pg_stat_activity;",
                    "sql",
                ),
                GuideStep(
                    "End transactions that are left open, from now on.",
                    "ALTER DATABASE CURRENT SET idle_in_transaction_session_timeout = '60s';".replace(
                        "CURRENT", str(connections[DEFAULT_DB_ALIAS].settings_dict["NAME"])
                    ),
                    "sql",
                ),
            ),
        )
    path = sqlite.database_file()
    steps = [
        GuideStep(
            f"{one['program']} (process {one['pid']}) holds the lock. End it if it is not needed.", f"kill {one['pid']}"
        )
        for one in evidence.get("holders", [])
        if isinstance(one, dict)
    ]
    steps += [
        GuideStep("Who has the database open.", f"fuser -v '{path}' '{path}-shm'"),
        GuideStep(
            "Do not open it with other programs while Switchboard runs; if you have to, read only.",
            f"sqlite3 -readonly '{path}'",
        ),
        GuideStep(
            "Many people or workers: move to PostgreSQL, whose writers do not wait for each other.",
            "DATABASE_URL=postgres://switchboard:PASSWORD@127.0.0.1:5432/switchboard",
            "ini",
            ".env",
        ),
    ]
    return Guide(
        "Free the database's write lock",
        "SQLite lets one write at a time. Whoever keeps a transaction open keeps all others waiting.",
        tuple(steps),
    )
