"""Why a scope cannot be opened. Knows no exit code.

ScopeError
├── BadPathError             a path does not exist, is no file or folder, or lies outside the repository
├── NotARepositoryError      a diff is asked for where no repository is, or git refuses to use it
├── BadRevisionError         git does not know the revision
├── GitMissingError          there is no git to ask
├── GitFailedError           git ended with an error; the message is git's own
├── DiffNotUnderstoodError   text on standard input in which no changed file was found
└── NothingToReviewError     no text on standard input, or no file in the folders
"""


class ScopeError(Exception):
    """The message says what was found, what was expected and what to do. It may hold names of files: foreign text."""


class BadPathError(ScopeError):
    pass


class NotARepositoryError(ScopeError):
    pass


class BadRevisionError(ScopeError):
    pass


class GitMissingError(ScopeError):
    pass


class GitFailedError(ScopeError):
    pass


class DiffNotUnderstoodError(ScopeError):
    pass


class NothingToReviewError(ScopeError):
    pass
