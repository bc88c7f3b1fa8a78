"""Valkey: connections, keys, scripts and what is read around them. The only package that imports `redis`."""
