"""Steps that many hooks need, as plain functions; each module is imported by name, as it needs a package of its own.

`images` and `templates` (pillow) and `texts` (tokenizers) come with the extra ``steps``; `classes` needs nothing.
"""
