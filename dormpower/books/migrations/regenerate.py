"""Write the initial migration anew from `tables.py`: `python -m dormpower.books.migrations.regenerate`.

Only for the time before the first release. The file that it writes is plain operations, frozen from then on; a
test proves that it and the tables don't differ.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from alembic.autogenerate import api as autogenerate
from alembic.runtime.migration import MigrationContext

from dormpower.books.database import open_books
from dormpower.books.tables import metadata
from dormpower.books.types import Instant

INITIAL = Path(__file__).parent / "versions" / "0001_initial.py"

TEMPLATE = '''"""The first schema of the books."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:  # noqa: PLR0915 - one statement for each table and index
    {upgrade}


def downgrade() -> None:
    raise NotImplementedError("the books never go back: restore a backup of before the upgrade")
'''


def _render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write a type of ours as what the database stores, and true and false as each database spells them."""
    if kind == "server_default" and isinstance(getattr(item, "arg", None), sa.False_ | sa.True_):
        return f"sa.{item.arg}()"
    if kind == "type" and isinstance(item, Instant):
        return "sa.BigInteger()"
    return False


def render() -> str:
    """Return the text of the initial migration that brings an empty database to the tables."""
    with tempfile.TemporaryDirectory() as folder:
        books = open_books(f"sqlite:///{folder}/empty.db")
        with books.read() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "render_item": _render_item,
                    "sqlalchemy_module_prefix": "sa.",
                    "alembic_module_prefix": "op.",
                    "target_metadata": metadata,
                },
            )
            script = autogenerate.produce_migrations(context, metadata)
            if script.upgrade_ops is None:
                raise RuntimeError("nothing to migrate: are the tables imported?")
            code = autogenerate.render_python_code(
                script.upgrade_ops, render_item=_render_item, migration_context=context
            )
        books.close()
    lines = [line for line in code.splitlines() if not line.strip().startswith("#")]
    return TEMPLATE.format(upgrade="\n".join(lines).strip())


def main() -> None:
    """Write the file and format it."""
    INITIAL.parent.mkdir(exist_ok=True)
    INITIAL.write_text(render(), encoding="utf-8")
    # Our own formatter on our own file; nothing here comes from outside.
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(INITIAL)], check=True)  # noqa: S603
    sys.stdout.write(f"wrote {INITIAL}\n")


if __name__ == "__main__":
    main()
