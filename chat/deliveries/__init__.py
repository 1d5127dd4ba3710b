"""Deliveries: the outbox. One row a target, sent in order, retried with backoff, and a dead letter after the last attempt."""
