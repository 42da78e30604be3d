//! Each instruction over its edge cases, against the host's arithmetic and against `half`.
//!
//! The expected values are computed here and not by the device's own functions: what the two have in
//! common is PTX's definition alone. Every case runs in full warps and in a part of one.
//!
//! The expectations were held against an H200 (driver API, November 2026): the same operands gave the same
//! bits, NaNs included, but for the approximate instructions, whose error bounds are tested instead. Not run
//! there: the cases in braces in `whole_warps`, and bf16 arithmetic.

mod bench;
mod bits;
mod convert;
mod float;
mod integer;
mod rest;
mod whole_warps;
