"""Repairs after the world around changed: a homeserver with another name."""
