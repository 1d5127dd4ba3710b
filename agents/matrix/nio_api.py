"""matrix-nio's builder of Matrix requests, imported when the first request is made.

Importing it takes a third of a second, since it brings the whole client along; most commands ask no homeserver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nio.api import Api
else:

    class _Api:
        def __getattr__(self, name: str) -> Any:
            from nio.api import Api as Real

            return getattr(Real, name)

    Api = _Api()

__all__ = ["Api"]
