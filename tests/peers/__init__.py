"""Real servers, and true-protocol stand-ins, that the tests talk to.

``python -m tests.peers install`` fetches what is not a package of ours; ``fixtures`` offers each peer to pytest.
"""
