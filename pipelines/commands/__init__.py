"""What each command takes on the command line. Nothing heavy is imported before a command runs."""
