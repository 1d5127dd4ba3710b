"""Looking after users and rooms on a homeserver, one module a dialect.

``synapse``: the admin API of Synapse, which Tuwunel serves from 1.8.1 on. ``admin_room``: commands in ``#admins`` of older Tuwunel,
conduwuit and continuwuity. ``registration``: how anybody may register. ``login``: what an account does for itself. ``ways`` says which of them serves what on a homeserver that was probed.
"""
