"""What a restore means for agents, accounts and rooms: what was made since is taken up again, and nothing is made twice."""
