"""Files that people send: what kinds are taken, how pictures are cleaned, what names become, and where contents lie."""
