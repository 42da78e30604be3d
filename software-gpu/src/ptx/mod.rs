//! PTX text to a typed tree: names resolved to registers, variables and labels, numbers to bits.
//!
//! What an instruction means is not known here; `program` decides that. The parser takes any bytes and
//! gives a tree or an error, in time and memory that grow with the text alone.

pub(crate) mod ast;
mod body;
mod directive;
mod lexer;
mod number;
mod parser;
mod scope;

pub(crate) use parser::{parse, version};

/// An error at a line of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub line: u32,
    pub reason: String,
}

/// A result of reading PTX.
pub(crate) type Result<T> = std::result::Result<T, SyntaxError>;

/// The error at `line`, with its reason.
pub(crate) fn error<T>(line: u32, reason: impl Into<String>) -> Result<T> {
    Err(SyntaxError {
        line,
        reason: reason.into(),
    })
}
