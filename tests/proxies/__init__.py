"""The emitted configurations of Caddy and nginx, as they are, in front of the emitted servers.

Each site has a network of its own. There the proxies have the ports, addresses, names and
certificates of production, and so nothing in their files has to be changed for a test.
"""
