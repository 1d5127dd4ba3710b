"""Turns: claimed, run, streamed, finished; swept when their worker is gone."""
