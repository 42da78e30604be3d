//! The instructions that there are.

/// The first word of every instruction that the device knows, in order. A module with another does not load;
/// of those, modifiers and types that are not known do not load either, each with its line.
#[rustfmt::skip]
pub const OPCODES: &[&str] = &[
    "abs", "activemask", "add", "and", "applypriority", "atom", "bar", "barrier", "bfe", "bfi", "bfind",
    "bmsk", "bra", "brev", "brx", "clz", "cnot", "copysign", "cos", "cp", "cvt", "cvta", "div", "dp2a",
    "dp4a", "elect", "ex2", "exit", "fence", "fma", "fns", "getctarank", "griddepcontrol", "ld", "ldu", "lg2", "lop3", "mad",
    "mapa", "match", "max", "mbarrier", "membar", "min", "mov", "mul", "nanosleep", "neg", "not", "or", "popc",
    "prefetch", "prefetchu", "prmt", "rcp", "red", "redux", "rem", "ret", "rsqrt", "sad", "selp", "set",
    "setp", "shf", "shfl", "shl", "shr", "sin", "slct", "sqrt", "st", "sub", "szext", "tanh", "testp", "trap",
    "vote", "xor",
];
