"""The page behind a set-up link: the first operator, or a new password for one who lost it."""
