"""Peakgate beside the other ways to take an order, on the same servers, the same machine and the same sockets."""
