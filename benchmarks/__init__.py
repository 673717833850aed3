"""What the emitted projects cost and bring, measured; see README.md in this folder."""
