"""Intake: from whatever a transport brings to messages and turns. It commits before it answers."""
