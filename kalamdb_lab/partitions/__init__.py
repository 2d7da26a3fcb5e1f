"""Rows and versions of one (table, scope): hot rows, removed versions, snapshot, flush."""
