"""The sockets' WebSocket level against the Autobahn suite."""
