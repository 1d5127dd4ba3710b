"""Benchmarks of Switchboard: what it must reach, measured against floors of the same run. See ``docs/performance.md``."""
