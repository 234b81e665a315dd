"""`ssiforge ablate`: trainings that differ in one thing, on the same seeds."""
