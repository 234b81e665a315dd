"""`ssiforge generate`: a recipe and a catalogue become shards, in processes of this machine or as Ray tasks."""
