"""Scripts that a benchmark runs inside Django, in a process of their own: arguments in, one line of JSON out."""
