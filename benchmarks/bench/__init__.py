"""The views and sockets that are measured: copied into every project, the same in each."""
