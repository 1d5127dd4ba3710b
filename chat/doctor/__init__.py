"""The doctor of conversations: one package for each part of the catalogue."""
