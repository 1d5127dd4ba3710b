"""What can go wrong with the portal: its pages, its doors, its sockets. Imported once, when the apps are ready."""

from chat.doctor.portal import (  # noqa: F401
    access_faults,
    budget,
    frontend,
    frontend_fault,
    invites,
    keys,
    no_response,
    origins,
    passwords,
    sessions,
    socket_faults,
    sockets,
)
