"""What crosses the socket and HTTP: message types, codecs, close codes. No behaviour."""
