"""Brings in what another bridge knew: which agent speaks as which account in which room. Reads files, plans, applies."""
