"""What a restore means for what is said: nothing old is answered or sent again, and what was said since is taken in as history."""
