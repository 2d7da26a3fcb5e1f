"""Definitions: entity stores over system partitions, schemas, storages, bootstrap."""
