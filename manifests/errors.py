"""The two ways a command can fail, told apart by exit code."""


class UserError(Exception):
    """Something the user can put right: a file, a field, an option. Exit code 2.

    The message is one sentence that names the file or field.
    """


class JobError(Exception):
    """A job that was asked for correctly and could not be finished. Exit code 1."""


class JobInterrupted(Exception):
    """A job that was asked to stop, and stopped where it can go on. Exit code 130.

    The message says how far it came and how to go on.
    """
