"""What a review covers: files of folders, or the changed files of a diff, each read or listed with the reason. Knows no model."""

from dsv3chat.review.scope.errors import (
    BadPathError,
    BadRevisionError,
    DiffNotUnderstoodError,
    GitFailedError,
    GitMissingError,
    NotARepositoryError,
    NothingToReviewError,
    ScopeError,
)
from dsv3chat.review.scope.opening import open_scope
from dsv3chat.review.scope.request import DiffRequest

__all__ = [
    "BadPathError",
    "BadRevisionError",
    "DiffNotUnderstoodError",
    "DiffRequest",
    "GitFailedError",
    "GitMissingError",
    "NotARepositoryError",
    "NothingToReviewError",
    "ScopeError",
    "open_scope",
]
