//! The operator's program. It does nothing yet, and the chart does not start it.
fn main() {}
