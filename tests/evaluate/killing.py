"""The end of a process, for tests."""


class Killed(BaseException):
    """What no code catches, like the end of a process."""
