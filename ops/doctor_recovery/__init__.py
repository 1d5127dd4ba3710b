"""The doctor of recovery: resets and releases."""
