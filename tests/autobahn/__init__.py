"""Autobahn's suite of the WebSocket protocol (RFC 6455), against the emitted server."""
