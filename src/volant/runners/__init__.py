"""Where work happens. `local` runs a call in this process.

Enters: a call and its run. Leaves: a handle with its result. Every runner gives the same digests as `local`.
"""
