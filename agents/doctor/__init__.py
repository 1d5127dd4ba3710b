"""The doctor of agents: one package for each part of the catalogue."""
