"""The REST API of conversations, messages, turns and deliveries."""
