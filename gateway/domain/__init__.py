"""Words and rules of the product; no I/O, nothing of the floors above."""
