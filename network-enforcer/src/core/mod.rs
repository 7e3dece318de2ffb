//! The pure core: who may talk to whom on a node, and the same as one nftables table.
//!
//! Input is a [`view::View`]: what the API server holds, as plain data. Two answers come out of it: [`evaluate`] judges
//! one flow straight from the objects, [`compile`] makes the [`table::Table`] that the kernel judges by. They are written
//! apart so that a property test can hold one against the other, through [`model`], a small nftables. [`delta`] says what
//! turns one table into the next. Nothing here knows a client, a clock or a process.

pub mod cidr;
pub mod compile;
pub mod delta;
pub mod evaluate;
mod members;
pub mod model;
pub mod render;
pub mod selector;
pub mod table;
pub mod view;
