"""Checks of the ground floor."""
