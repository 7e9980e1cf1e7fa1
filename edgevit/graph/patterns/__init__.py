"""Forms that exporters write one computation in, recognised."""
