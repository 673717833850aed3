"""The emitted streams on their production servers, while workers, Redis and clients go away."""
