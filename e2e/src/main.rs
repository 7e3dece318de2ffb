//! Evidence on a real cluster: rows that the demo prints and the tests assert
fn main() {}
