"""`ssiforge scan`: folders of recordings become a catalogue."""
