"""How other servers are reached from where this process runs: name, connection, encryption, answer, one stage after the other."""
