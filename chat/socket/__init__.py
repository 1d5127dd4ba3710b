"""The WebSocket of people: one hub in each web process, thin connections, rows as the truth. The protocol is in docs/socket.md."""
