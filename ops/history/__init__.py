"""What single objects looked like: which models keep versions of their objects, and how these are written.

A version is written in the transaction of the change, by ``ops.services.audit``: whoever records what was done to an object of a registered
model leaves what the object is from then on. What is the same as before makes no version; nor does what is only observed outside.
"""
