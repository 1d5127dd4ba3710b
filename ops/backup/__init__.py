"""Backup, restore and drill: rows and files in one encrypted file, and back. How the file looks: ``docs/backup-format.md``."""
