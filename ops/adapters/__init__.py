"""Who starts and restarts things: systemd, Docker, we ourselves, or nobody but the operator.

``adapter_for(part)`` finds the one for a part of the installation. Only what is ours is touched, and outside services that an
operator has named a unit or a container for.
"""

from __future__ import annotations

from ops.adapters.base import Adapter, AdapterError, Part, adapter_for, part_of, register_adapter, role_part

__all__ = ["Adapter", "AdapterError", "Part", "adapter_for", "part_of", "register_adapter", "role_part"]
