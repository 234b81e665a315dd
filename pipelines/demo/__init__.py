"""`ssiforge demo`: the whole chain on material that is made on the spot."""
