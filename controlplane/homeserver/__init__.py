"""The local homeserver of embedded mode: a Synapse below the data directory, installed, configured, started and stopped by `up`."""
