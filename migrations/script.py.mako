# SPDX-License-Identifier: Apache-2.0
"""${message}.

Why: say what the change is for.
Phase: expand | contract. The previous release must work with the schema after an
expand step; contract only what no released version reads any more.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Undo the change."""
    ${downgrades if downgrades else "pass"}
