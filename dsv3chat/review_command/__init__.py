"""`dsv3chat review` between its flags and the reviewer: in lines, around the screen, or as an evaluation. Knows no model."""
