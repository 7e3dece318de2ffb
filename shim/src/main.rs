//! Container runtime shim: one virtual machine a pod
fn main() {}
