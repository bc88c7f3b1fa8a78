"""The only assembler: builds every object of each process, and says in which order they start and stop.

A file for each process, so that a start reads the code of its own process alone.
"""
