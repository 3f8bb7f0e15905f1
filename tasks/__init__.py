"""The work of Nightshift: one file a stage, no orchestration.

Nothing is imported here, so that a stage costs only what it uses.
"""
