"""The catalog: commit log, manifest and counter in one ACID file."""
