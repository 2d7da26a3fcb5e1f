"""What the engine costs, beside peers: one file per question. ``python -m benchmarks`` runs all."""
