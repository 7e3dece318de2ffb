//! Controllers that resolve Tenants into Boundaries and keep what they own in place
fn main() {}
