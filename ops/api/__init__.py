"""The REST API's ground: who calls, how errors look, how lists are paged, how a write is repeated; and what this app offers."""
