"""Peakgate: live rooms and an exact flash sale in front of a shop."""
