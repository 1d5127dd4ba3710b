"""The doctor: issues, repairs, guides, faults, and the catalogue of known failures."""
