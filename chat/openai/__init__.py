"""The OpenAI-compatible API: agents as models, for other chat clients (see docs/programs.md)."""
