"""Recipes decide what answers; a vector is no longer in use by itself.

A model whose vectors in use are those that the built-in recipe `paper` would take needs nothing. Any other choice of vectors
becomes a recipe in use, so that after the upgrade the same vectors answer as before: with the prompts and the margin of
uncertain answers of the time, which stand here in full because a migration must not change with the program.
"""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
IN_USE = sa.text("status = 'in use'")
ACTIVE = sa.text("status = 'active'")
UNCERTAIN_MARGIN = 0.05
YES_NO = {"true_word": " Yes", "false_word": " No"}
STATEMENT = {
    **YES_NO,
    "version": "verdict-statement-yes-no-4shot-v1",
    "frame": "Statement: {}\nIs the statement correct? Answer:",
    "shots": [
        ["The heart pumps blood through the body.", True],
        ["Insulin raises the amount of glucose in the blood.", False],
        ["The kidneys make urine.", True],
        ["Antibiotics are an effective treatment for the common cold.", False],
    ],
}
QUESTION = {
    **YES_NO,
    "version": "verdict-question-yes-no-4shot-v1",
    "frame": "Question: {}\nAnswer:",
    "shots": [
        ["Does the heart pump blood through the body?", True],
        ["Does insulin raise the amount of glucose in the blood?", False],
        ["Do the kidneys make urine?", True],
        ["Are antibiotics an effective treatment for the common cold?", False],
    ],
}


def upgrade() -> None:
    op.create_table(
        "recipe",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("model_sha256", sa.String(), nullable=False),
        sa.Column("number_type", sa.String(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("replaced_id", sa.String(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_recipe"),
        sa.ForeignKeyConstraint(
            ["replaced_id"], ["recipe.id"], name="fk_recipe_replaced_id", ondelete="SET NULL"
        ),
    )
    op.create_index(
        "uq_recipe_in_use",
        "recipe",
        ["model_sha256", "number_type"],
        unique=True,
        sqlite_where=IN_USE,
        postgresql_where=IN_USE,
    )
    # Without batch mode, as for every column of `answer`: see revision 0003.
    op.add_column("answer", sa.Column("recipe", sa.String(), nullable=True))
    _keep_what_is_in_use()
    op.drop_index("uq_vector_active", table_name="vector")
    op.execute("UPDATE vector SET status = 'candidate' WHERE status = 'active'")
    with op.batch_alter_table("vector") as vector:
        vector.drop_constraint("fk_vector_replaced_id", type_="foreignkey")
        vector.drop_column("replaced_id")
        vector.alter_column("category", existing_type=sa.String(), nullable=True)
        vector.add_column(sa.Column("positions", sa.String(), nullable=False, server_default=""))


def _keep_what_is_in_use() -> None:
    """Make a recipe of the vectors in use of each model, where the built-in one would take others."""
    rows = op.get_bind().execute(sa.text("SELECT * FROM vector ORDER BY id")).mappings().all()
    for model_sha256 in dict.fromkeys(row["model_sha256"] for row in rows):
        versions = [row for row in rows if row["model_sha256"] == model_sha256]
        in_use = {row["category"]: row for row in versions if row["status"] == "active"}
        papers: dict[str, Any] = {}
        for row in versions:
            if row["preset"] == "paper" and row["status"] != "retired":
                papers.setdefault(row["category"], row)
        if in_use != papers:
            _put_to_use(in_use, versions[-1])


def _put_to_use(in_use: dict[str, Any], version: Any) -> None:
    diagnostics = version["diagnostics"]
    told = json.loads(diagnostics) if isinstance(diagnostics, str) else diagnostics or {}
    number_type = told.get("dtype", "float32")
    content = {
        "model_sha256": version["model_sha256"],
        "number_type": number_type,
        "engine": "torch",
        "prompt": STATEMENT,
        "question_prompt": QUESTION,
        "uncertain_margin": UNCERTAIN_MARGIN,
    }
    if in_use:
        content["steering"] = {
            category: {
                "file_sha256": row["file_sha256"],
                "strategy": row["strategy"],
                "layer": row["layer"],
                "strength": float(row["alpha"]),
            }
            for category, row in in_use.items()
        }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    recipe = sa.table(
        "recipe",
        *(sa.column(name) for name in ("id", "name", "model", "model_sha256", "number_type", "status")),
        sa.column("content", sa.JSON()),
        sa.column("created_at", MOMENT),
    )
    op.bulk_insert(
        recipe,
        [
            {
                "id": hashlib.sha256(canonical.encode()).hexdigest()[:12],
                "name": "before recipes",
                "model": version["model"],
                "model_sha256": version["model_sha256"],
                "number_type": number_type,
                "status": "in use",
                "content": content,
                "created_at": datetime.now(UTC),
            }
        ],
    )


def downgrade() -> None:
    op.execute("DELETE FROM vector WHERE category IS NULL")
    with op.batch_alter_table("vector") as vector:
        vector.drop_column("positions")
        vector.alter_column("category", existing_type=sa.String(), nullable=False)
        vector.add_column(sa.Column("replaced_id", sa.Integer(), nullable=True))
        vector.create_foreign_key(
            "fk_vector_replaced_id", "vector", ["replaced_id"], ["id"], ondelete="SET NULL"
        )
    op.create_index(
        "uq_vector_active",
        "vector",
        ["model_sha256", "category"],
        unique=True,
        sqlite_where=ACTIVE,
        postgresql_where=ACTIVE,
    )
    op.drop_column("answer", "recipe")
    op.drop_table("recipe")
