"""Repairs after Switchboard itself moved."""
