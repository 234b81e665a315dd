"""What is heard beside the talker."""
