"""Reference models and conformance suites, for our tests and for other stores."""
