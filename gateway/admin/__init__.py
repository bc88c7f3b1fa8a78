"""The admin port: metrics and health of one process, for operators; loopback by default."""
