"""One module for each kind of record that the predecessor kept: what its fields are called, and which variants were seen."""
