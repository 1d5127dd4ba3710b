"""Where the time of an answer goes, and what is known of good answers: for the checks of model providers."""

from chat.doctor.slow import answers, check, fault  # noqa: F401
