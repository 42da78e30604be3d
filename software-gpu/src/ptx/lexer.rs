//! PTX text to tokens, each with its line.

use super::{Result, error};

/// A token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// A name, an opcode with its modifiers, a directive or a special register.
    Word(&'a str),
    /// A number's text, from its first digit.
    Number(&'a str),
    /// The text between the quotes.
    Text(&'a str),
    /// Anything else: one character.
    Mark(u8),
}

/// A token and its line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexeme<'a> {
    pub token: Token<'a>,
    pub line: u32,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

/// Splits a whole text.
pub(super) fn lex(text: &str) -> Result<Vec<Lexeme<'_>>> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    let mut line = 1;
    while at < bytes.len() {
        let start = at;
        let byte = bytes[at];
        let next = bytes.get(at + 1).copied().unwrap_or(0);
        match byte {
            b'\n' => {
                line += 1;
                at += 1;
            }
            b' ' | b'\t' | b'\r' => at += 1,
            b'/' if next == b'/' => {
                at = bytes[at..]
                    .iter()
                    .position(|&b| b == b'\n')
                    .map_or(bytes.len(), |n| at + n);
            }
            b'/' if next == b'*' => {
                let Some(length) = text[at + 2..].find("*/") else {
                    return error(line, "a comment that does not end");
                };
                at += 2 + length + 2;
                line += text[start..at].matches('\n').count() as u32;
            }
            b'"' => {
                let Some(length) = bytes[at + 1..]
                    .iter()
                    .position(|&b| b == b'"' || b == b'\n')
                else {
                    return error(line, "a text that does not end");
                };
                if bytes[at + 1 + length] == b'\n' {
                    return error(line, "a text that does not end on its line");
                }
                out.push(Lexeme {
                    token: Token::Text(&text[at + 1..at + 1 + length]),
                    line,
                });
                at += length + 2;
            }
            _ if byte.is_ascii_digit() => {
                while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'.') {
                    at += 1;
                    // The sign in an exponent: 1.5e-3, which no hexadecimal form can be taken for.
                    let decimal =
                        !text[start..at].starts_with("0x") && !text[start..at].starts_with("0X");
                    let exponent = decimal
                        && matches!(bytes[at - 1], b'e' | b'E')
                        && text[start..at].contains('.');
                    if exponent && matches!(bytes.get(at), Some(b'-' | b'+')) {
                        at += 1;
                    }
                }
                out.push(Lexeme {
                    token: Token::Number(&text[start..at]),
                    line,
                });
            }
            _ if is_word(byte) => {
                while at < bytes.len() {
                    if is_word(bytes[at]) {
                        at += 1;
                    } else if bytes[at..].starts_with(b"::")
                        && bytes.get(at + 2).is_some_and(|b| b.is_ascii_alphanumeric())
                    {
                        at += 2;
                    } else {
                        break;
                    }
                }
                out.push(Lexeme {
                    token: Token::Word(&text[start..at]),
                    line,
                });
            }
            _ if byte.is_ascii_graphic() => {
                out.push(Lexeme {
                    token: Token::Mark(byte),
                    line,
                });
                at += 1;
            }
            _ => return error(line, format!("byte {byte:#04x} has no place in PTX")),
        }
    }
    Ok(out)
}

impl Token<'_> {
    /// The token as it stood in the text.
    pub fn describe(&self) -> String {
        match self {
            Token::Word(word) | Token::Number(word) => format!("`{word}`"),
            Token::Text(text) => format!("\"{text}\""),
            Token::Mark(mark) => format!("`{}`", *mark as char),
        }
    }
}
