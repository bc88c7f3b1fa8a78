"""PostgreSQL, the ledger: the only truth about what was sold. The only package that imports `asyncpg`."""
