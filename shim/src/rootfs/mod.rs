//! A container's root file system: which folders its layers are, each converted once, and a writable disk.
//!
//! Input: the mounts that a snapshotter would make, or the one that the container runtime has made. The task service plugs the files that come out into the
//! machine. The host mounts nothing.

pub mod layers;
pub mod scratch;
pub mod shape;
