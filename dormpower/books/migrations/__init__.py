"""The versions of the books' schema, in order; `dormpower.books.migration` applies them.

While the first version has not been released, the one initial migration is written anew from `tables.py` by
`python -m dormpower.books.migrations.regenerate`. A released migration is never changed: a change of the
schema is then a further file in `versions/`.
"""
