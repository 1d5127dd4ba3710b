"""Where Synapse's admin API was before it became one dialect among others."""

from agents.matrix.admin.synapse import SynapseAdmin, registration_mac

__all__ = ["SynapseAdmin", "registration_mac"]
