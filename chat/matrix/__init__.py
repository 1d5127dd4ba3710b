"""Matrix as a transport: the homeserver's pushes in, messages as the agents out, and what a room shows meanwhile."""
