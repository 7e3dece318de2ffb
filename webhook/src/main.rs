//! Admission server: decode, look up, ask policy, answer
fn main() {}
