"""The talker: how loud, and how steadily."""
