"""The device's own signal processing."""
