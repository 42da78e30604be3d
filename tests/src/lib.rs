//! The suite that every device must pass: the library's public interface against an f64 oracle.
//!
//! `software.rs` and `cuda.rs` run it, each in a process of its own. To add a test, add it to a file of
//! `suite`; to add a device, add a file beside `software.rs`.

pub mod bench;
pub mod bits;
pub mod check;
pub mod data;
pub mod direct;
pub mod occupancy;
pub mod oracle;
pub mod plan_rows;
pub mod suite;
pub mod tolerance;
