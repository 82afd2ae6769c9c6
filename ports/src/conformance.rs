//! Conformance suites: what every implementation of a port must do, run by each adapter against the real thing.
