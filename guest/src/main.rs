//! Init of the guest: sets up containers, runs their processes and speaks guest-api
fn main() {}
