"""Stand-in servers that only benchmarks need: they stamp and count what reaches them."""
