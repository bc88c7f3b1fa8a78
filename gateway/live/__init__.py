"""The socket edge: sockets only. Everything it decides about orders is decided in `flows`."""
