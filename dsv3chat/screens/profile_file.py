"""A profile's YAML in the person's editor. Knows no list and no engine."""

from __future__ import annotations

import shutil

from textual.app import App

from dsv3chat.profile_choices import Choice
from dsv3chat.screens.editor import open_at
from engine.paths import private_dir, user_profiles_dir


def edit_profile(app: App[None], choice: Choice) -> str:
    """Open the file; what there is to say afterwards, "" where nothing is. Raises OSError, EditorError.

    A shipped profile is never written to: a copy in the user's folder is opened, which takes the shipped one's place from
    then on, as profiles of one name do. A copy that was not changed is removed again.
    """
    if choice.origin != "shipped":
        open_at(app, choice.path, 1)
        return ""
    copy = private_dir(user_profiles_dir()) / choice.path.name
    shutil.copyfile(choice.path, copy)
    try:
        open_at(app, copy, 1)
    finally:
        unchanged = copy.exists() and copy.read_bytes() == choice.path.read_bytes()
        if unchanged:
            copy.unlink()
    return "" if unchanged else f"{copy} takes the place of the shipped {choice.name} from now on"
