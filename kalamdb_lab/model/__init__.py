"""Pure values: ids, roles, data types, definitions."""
