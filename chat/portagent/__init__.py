"""Moving over from Portagent 1.9 and 2.x: reading its databases, planning, applying. Nothing here knows requests or commands."""
