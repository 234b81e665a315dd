"""The microphone: what it colours and leaves out."""
