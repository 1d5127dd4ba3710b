"""The doctor of what is kept: the database, the disk, log files, and rows that have had their time."""
