//! Node agent: installs the shim, registers it with the container runtime, proves it, reports NodeRuntime
fn main() {}
