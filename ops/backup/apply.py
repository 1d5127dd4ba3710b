"""Makes the rows of a database equal to those of a backup, in one transaction."""

from __future__ import annotations

from ops.backup.hooks import Fence, Reconcile, register_fence, register_reconcile

__all__ = ["Fence", "Reconcile", "register_fence", "register_reconcile"]
