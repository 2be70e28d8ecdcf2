"""From labelled statements to steering vectors: run the traces, fit the strategy, measure what it changes.

The default recipe is the paper's (MEDASSESS-X, arXiv 2601.12812, section 3) with each choice named: mean difference,
reading `answer_word`, penultimate layer, alpha 1.0, 200 examples a category.
"""

from medx_core.vector_building.builder import VectorBuilder
from medx_core.vector_building.examples import sha256_of_statements, whole_groups
from medx_core.vector_building.recipe import VectorRecipe

__all__ = ["VectorBuilder", "VectorRecipe", "sha256_of_statements", "whole_groups"]
