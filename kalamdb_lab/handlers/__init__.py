"""Statements, family by family: one typed statement in, one result out."""
