"""The socket edge: sockets only, on picows. Everything it decides about orders is decided in `flows`."""
