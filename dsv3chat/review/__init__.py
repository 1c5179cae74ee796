"""Code review: what is read, what the model is asked, what it found, and how that is written. Knows no screen."""
