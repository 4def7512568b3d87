"""How answers are written: HTML of templates, files that never change, streams."""
