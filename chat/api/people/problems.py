"""How refusals of the portal look in the API."""

from __future__ import annotations

from chat.access.grants import NotYours
from chat.search.wish import WishInvalid
from chat.services.attachments import AttachmentRefused
from chat.services.imports import CannotImport
from chat.services.matrix_account import NoMatrixAccount
from chat.services.portal_rooms import CannotOpenRoom
from chat.services.shares import CannotShare
from ops.api.problems import NOT_FOUND, FieldError, Problem, declare, translate

_ATTACHMENTS = {
    known.code: known
    for known in (
        declare("attachment.too_large", 413, "The file is too large"),
        declare("attachment.empty", 422, "The file is empty"),
        declare("attachment.kind", 415, "Files of this kind are not taken"),
        declare("attachment.broken", 422, "The picture cannot be read"),
        declare("attachment.unsent", 429, "Too many files wait to be sent"),
        declare("attachment.no_space", 507, "There is no room for files"),
    )
}

_SHARING = {
    known.code: known
    for known in (
        declare("share.off", 403, "Sharing by link is switched off"),
        declare("share.empty", 409, "There is nothing to share yet"),
        declare("share.too_many", 409, "There are too many links"),
    )
}
_MATRIX = {
    known.code: known
    for known in (
        declare("matrix.no_account", 409, "You have no Matrix account"),
        declare("matrix.has_account", 409, "You have a Matrix account already"),
        declare("matrix.no_agent", 409, "The agent no longer exists"),
        declare("matrix.agent_has_no_account", 409, "The agent has no Matrix account yet"),
        declare("matrix.none", 409, "There is no homeserver for this"),
        declare("matrix.empty", 409, "Nothing was said in the room"),
        declare("matrix.password", 422, "The password is too short"),
        declare("matrix.taken", 409, "The name is taken"),
        declare("matrix.failed", 502, "The homeserver did not do it"),
    )
}
IMPORT_REFUSED = declare("import.refused", 422, "The file holds no conversations that can be read")
SEARCH_INVALID = declare("search.invalid", 422, "A condition of the search cannot be understood")

translate(NotYours, lambda error: Problem(NOT_FOUND, error.sentence))
translate(AttachmentRefused, lambda error: Problem(_ATTACHMENTS[error.code], error.sentence))
translate(
    WishInvalid,
    lambda error: Problem(SEARCH_INVALID, error.sentence, errors=[FieldError("q", error.sentence, "query")]),
)
translate(CannotShare, lambda error: Problem(_SHARING[error.code], error.sentence))
translate(CannotOpenRoom, lambda error: Problem(_MATRIX[error.code], error.sentence))
translate(NoMatrixAccount, lambda error: Problem(_MATRIX[error.code], error.sentence))
translate(CannotImport, lambda error: Problem(IMPORT_REFUSED, error.sentence))
