"""The networks: a repairing net (teacher and student), a denoiser, and the chain of both."""
