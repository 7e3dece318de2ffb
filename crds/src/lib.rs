//! Every custom resource of Freehold as a Rust type with schema, rules and documentation
