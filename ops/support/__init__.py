"""The support bundle: what somebody else needs to understand a trouble, in one file without a secret."""
