"""One Synapse process: started so that it dies with us, found again when it did not, stopped by its id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from controlplane.homeserver.paths import LocalHomeserver, read_text, write_private

# Runs before Synapse in its process: Linux then sends SIGTERM when the thread that started it ends, however it ends. The second
# look at the parent closes the gap between our start and the call.
_TIED = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
STOP_SECONDS = 8.0


def spawn(python: Path, local: LocalHomeserver) -> subprocess.Popen[bytes]:
    """Start Synapse and note its process id. The calling thread must live as long as Synapse shall."""
    _keep_short(local.output)
    with local.output.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *_command(python, local)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=local.folder,
            # A Ctrl-C in the terminal is for us; we stop Synapse when its turn comes.
            start_new_session=True,
            # Its environment is its own: kept compiled modules make the next start three times as fast.
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": ""},
        )
    write_private(local.pid_file, f"{process.pid}\n")
    return process


def _command(python: Path, local: LocalHomeserver) -> list[str]:
    command = [str(python), "-m", "synapse.app.homeserver", "--config-path", str(local.config)]
    extra = local.folder / "extra.yaml"
    return [*command, "--config-path", str(extra)] if extra.exists() else command


def stop(process: subprocess.Popen[bytes], local: LocalHomeserver, seconds: float = STOP_SECONDS) -> None:
    """End it politely, by force after ``seconds``."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
    local.pid_file.unlink(missing_ok=True)


def listens(process: subprocess.Popen[bytes], local: LocalHomeserver) -> bool:
    """Whether it is this process that listens at the homeserver's port, and no other."""
    try:
        wires = psutil.Process(process.pid).net_connections(kind="tcp")
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OSError):
        # A system that does not tell: then whatever answers there has to be believed.
        return True
    return any(wire.status == psutil.CONN_LISTEN and wire.laddr.port == local.port for wire in wires)


def stop_stale(local: LocalHomeserver) -> int | None:
    """Stop a Synapse of this data directory that an earlier, killed process left behind. Returns its process id.

    A process counts only if its command line names our configuration: the id may belong to somebody else by now.
    """
    text = read_text(local.pid_file).strip()
    if not text.isdigit():
        return None
    pid = int(text)
    found = None
    if is_ours(pid, local):
        found = pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        if not _gone(pid, local, STOP_SECONDS):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _gone(pid, local, 5)
    local.pid_file.unlink(missing_ok=True)
    return found


def is_ours(pid: int, local: LocalHomeserver) -> bool:
    """Whether this process is the Synapse of this data directory."""
    return str(local.config) in command_line(pid) and "synapse.app.homeserver" in command_line(pid)


def command_line(pid: int) -> str:
    """A process's command line, "" when there is no such process (or it has ended and waits to be collected)."""
    if Path("/proc/self/cmdline").exists():
        return read_text(Path(f"/proc/{pid}/cmdline")).replace("\0", " ").strip()
    done = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _gone(pid: int, local: LocalHomeserver, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while is_ours(pid, local):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _keep_short(path: Path, limit: int = 1024 * 1024) -> None:
    with contextlib.suppress(OSError):
        if path.stat().st_size > limit:
            path.write_bytes(path.read_bytes()[-limit // 4 :])


def log_tail(local: LocalHomeserver, lines: int = 15) -> str:
    """The last words: of what it printed, else of its log."""
    for path in (local.output, local.log):
        text = [line for line in read_text(path).splitlines() if line.strip()][-lines:]
        if text:
            return f"The end of {path}:\n" + "\n".join(text)
    return ""
