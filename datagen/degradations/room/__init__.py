"""The room: what walls and air do to speech."""
