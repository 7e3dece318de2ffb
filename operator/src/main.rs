//! Controllers that resolve Tenants into Boundaries and keep what they own in place.
//!
//! Not here yet: any controller. This program does nothing, and the chart does not start it.
fn main() {}
