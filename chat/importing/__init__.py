"""What another bridge knew of conversations: between agents, in direct rooms, and on the agents' own server."""
