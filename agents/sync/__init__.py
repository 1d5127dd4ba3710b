"""Sync: observe (all pages, proven complete) → plan (pure) → apply (idempotent steps, each persisted before the next)."""
