"""What can go wrong with the portal: its pages, its doors, its sockets. Imported once, when the apps are ready."""

from chat.doctor.portal import frontend, frontend_fault, no_response, origins  # noqa: F401
