"""From an authorised tree to Arrow: names, scans, the locked engine, results."""
