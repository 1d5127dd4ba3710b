"""How failures of backends, the homeserver and sync look in the API."""

from __future__ import annotations

from agents.backends.errors import AgentGone, BackendBusy, BackendError, BackendRateLimited, BackendRejected
from agents.matrix.errors import HomeserverUnreachable, MatrixError, RateLimited
from agents.services.backends import NoHomeserver
from agents.services.imports import ImportRefused
from agents.services.sync import SyncBusy, UnknownService
from ops.api.problems import FieldError, Problem, declare, translate

BACKEND_FAILED = declare("backend.failed", 502, "The agent's server did not do it")
BACKEND_REJECTED = declare("backend.rejected", 422, "The agent's server refused it")
BACKEND_BUSY = declare("backend.busy", 409, "The agent works on something else")
BACKEND_LIMITED = declare("backend.rate_limited", 503, "The agent's server asks us to wait")
BACKEND_GONE = declare("backend.agent_gone", 404, "The agent's server does not know the agent")
HOMESERVER_FAILED = declare("homeserver.failed", 502, "The homeserver did not do it")
HOMESERVER_DOWN = declare("homeserver.unreachable", 503, "The homeserver does not answer")
HOMESERVER_NONE = declare("homeserver.none", 409, "No homeserver is set up")
SYNC_BUSY = declare("sync.busy", 409, "Another sync is running")
SYNC_UNKNOWN_SERVICE = declare("sync.unknown_service", 422, "There is no such enabled service")
MAPPING_IMPORT_REFUSED = declare("mapping_import.refused", 422, "The import cannot do that")

_BACKEND = {
    AgentGone: BACKEND_GONE,
    BackendRejected: BACKEND_REJECTED,
    BackendBusy: BACKEND_BUSY,
    BackendRateLimited: BACKEND_LIMITED,
}


def _retry_after(seconds: float | None) -> dict[str, str]:
    return {"Retry-After": str(max(1, round(seconds)))} if seconds is not None else {}


def _backend(error: BackendError) -> Problem:
    code = next((_BACKEND[cls] for cls in type(error).__mro__ if cls in _BACKEND), BACKEND_FAILED)
    return Problem(code, error.reason, headers=_retry_after(error.retry_after))


def _matrix(error: MatrixError) -> Problem:
    code = HOMESERVER_DOWN if isinstance(error, HomeserverUnreachable | RateLimited) else HOMESERVER_FAILED
    return Problem(code, error.sentence, headers=_retry_after(error.retry_after))


def _unknown_service(error: UnknownService) -> Problem:
    return Problem(SYNC_UNKNOWN_SERVICE, str(error), errors=[FieldError("service", str(error))])


translate(BackendError, _backend)
translate(MatrixError, _matrix)
translate(NoHomeserver, lambda error: Problem(HOMESERVER_NONE, NoHomeserver.sentence))
translate(SyncBusy, lambda error: Problem(SYNC_BUSY, "Another sync is running; ask again when it has ended."))
translate(UnknownService, _unknown_service)
translate(ImportRefused, lambda error: Problem(MAPPING_IMPORT_REFUSED, str(error)))
