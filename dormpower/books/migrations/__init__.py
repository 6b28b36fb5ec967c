"""The versions of the books' schema, in order; `dormpower.books.migration` applies them.

A migration is never changed once it has landed: a change of the schema is a further file in `versions/`.
"""
