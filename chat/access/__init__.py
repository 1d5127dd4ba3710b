"""Who may do what in the portal: grants, identities, sign-ins of programs, tickets, attempts and their limits."""
