//! The module level: version, target, variables, entries.

use std::collections::HashMap;

use super::ast::{Module, VarRef};
use super::lexer::{Lexeme, Token, lex};
use super::{Result, SyntaxError, error};

/// Reads a module.
pub(crate) fn parse(text: &str) -> Result<Module<'_>> {
    let tokens = lex(text)?;
    let mut parser = Parser {
        tokens: &tokens,
        at: 0,
        module: Module::default(),
        names: HashMap::new(),
    };
    parser.module()?;
    Ok(parser.module)
}

/// The version that a text says it has, and the line: also of one that does not parse.
pub(crate) fn version(text: &str) -> Option<((u32, u32), u32)> {
    let mut lines = text.lines().zip(1..);
    lines.find_map(|(line, number)| {
        let version = line.trim().strip_prefix(".version")?;
        let version = version.split_whitespace().next()?;
        Some((two_numbers(version)?, number))
    })
}

fn two_numbers(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The reader: tokens, where it is, and what it has found.
pub(super) struct Parser<'t, 'a> {
    tokens: &'t [Lexeme<'a>],
    at: usize,
    pub(super) module: Module<'a>,
    /// The module's variables and entries by name; entries are `None`.
    pub(super) names: HashMap<&'a str, Option<VarRef>>,
}

impl<'a> Parser<'_, 'a> {
    fn module(&mut self) -> Result<()> {
        self.header()?;
        while let Some(token) = self.peek() {
            match token {
                Token::Word(".visible" | ".weak" | ".extern" | ".common") => self.linked()?,
                Token::Word(".entry") => self.entry()?,
                Token::Word(".func") => {
                    return self
                        .fail("functions are not supported: the kernel must be inlined whole");
                }
                Token::Word(".file" | ".loc") => self.skip_line(),
                Token::Word(".section") => self.section()?,
                Token::Word(".pragma") => self.skip_to(b';')?,
                Token::Word(".alias") => return self.fail("`.alias` is not supported"),
                Token::Word(".global" | ".const" | ".shared") => {
                    let variables = self.variables(false)?;
                    self.declare(variables)?;
                }
                other => {
                    return self.fail(format!(
                        "expected a directive of the module, got {}",
                        other.describe()
                    ));
                }
            }
        }
        Ok(())
    }

    fn header(&mut self) -> Result<()> {
        self.module.version_line = self.line();
        self.word(".version")?;
        let Some(Token::Number(text)) = self.next() else {
            return error(
                self.module.version_line,
                "`.version` needs a number like 7.4",
            );
        };
        let Some(version) = two_numbers(text) else {
            return error(
                self.module.version_line,
                format!("`{text}` is not a version like 7.4"),
            );
        };
        self.module.version = version;
        self.module.target_line = self.line();
        self.word(".target")?;
        loop {
            let name = self.name("a target")?;
            if let Some(number) = name.strip_prefix("sm_") {
                let digits = number.trim_end_matches(|c: char| c.is_ascii_lowercase());
                let suffix = &number[digits.len()..];
                let suffix = match suffix {
                    "" => None,
                    "a" | "f" => suffix.chars().next(),
                    _ => {
                        return error(
                            self.module.target_line,
                            format!("target `{name}` is not known"),
                        );
                    }
                };
                let Ok(number) = digits.parse() else {
                    return error(
                        self.module.target_line,
                        format!("target `{name}` is not known"),
                    );
                };
                (self.module.target, self.module.target_suffix) = (number, suffix);
            } else if name != "debug" {
                return error(
                    self.module.target_line,
                    format!("target `{name}` is not supported"),
                );
            }
            if !self.take(b',') {
                break;
            }
        }
        if self.module.target == 0 {
            return error(
                self.module.target_line,
                "`.target` names no sm_ architecture",
            );
        }
        self.word(".address_size")?;
        match self.next() {
            Some(Token::Number("64")) => Ok(()),
            _ => error(self.module.target_line, "`.address_size` must be 64"),
        }
    }

    /// What follows a linking directive.
    fn linked(&mut self) -> Result<()> {
        let is_extern = self.peek() == Some(Token::Word(".extern"));
        self.at += 1;
        match self.peek() {
            Some(Token::Word(".entry")) if !is_extern => self.entry(),
            Some(Token::Word(".func")) => {
                self.fail("functions are not supported: the kernel must be inlined whole")
            }
            Some(Token::Word(".shared")) if is_extern => {
                let variables = self.variables(true)?;
                self.declare(variables)
            }
            Some(Token::Word(".global" | ".const" | ".shared")) if !is_extern => {
                let variables = self.variables(false)?;
                self.declare(variables)
            }
            _ if is_extern => {
                self.fail("only shared arrays can be extern: there is nothing to link with")
            }
            _ => self.fail("expected `.entry` or a variable after the linking directive"),
        }
    }

    fn declare(&mut self, variables: Vec<super::ast::Variable<'a>>) -> Result<()> {
        for variable in variables {
            let id = VarRef::Module(self.module.variables.len());
            if self.names.insert(variable.name, Some(id)).is_some() {
                return error(
                    variable.line,
                    format!("`{}` is declared twice", variable.name),
                );
            }
            self.module.variables.push(variable);
        }
        Ok(())
    }

    /// Debug information: `.section name { ... }`.
    fn section(&mut self) -> Result<()> {
        while let Some(token) = self.next() {
            if token == Token::Mark(b'{') {
                return self.skip_to(b'}');
            }
        }
        self.fail("a section that does not end")
    }

    // The tokens.

    pub(super) fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|lexeme| lexeme.token)
    }

    pub(super) fn peek_after(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at + 1).map(|lexeme| lexeme.token)
    }

    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.at += 1;
        token
    }

    /// The line of the next token; of the last at the end.
    pub(super) fn line(&self) -> u32 {
        self.tokens
            .get(self.at)
            .or(self.tokens.last())
            .map_or(1, |lexeme| lexeme.line)
    }

    pub(super) fn fail<T>(&self, reason: impl Into<String>) -> Result<T> {
        Err(SyntaxError {
            line: self.line(),
            reason: reason.into(),
        })
    }

    /// Goes past `mark` if it is next.
    pub(super) fn take(&mut self, mark: u8) -> bool {
        let found = self.peek() == Some(Token::Mark(mark));
        self.at += usize::from(found);
        found
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(Token::Word(word));
        self.at += usize::from(found);
        found
    }

    fn found(&self) -> String {
        self.peek()
            .map_or("the end of the text".into(), |token| token.describe())
    }

    pub(super) fn mark(&mut self, mark: u8) -> Result<()> {
        if self.take(mark) {
            Ok(())
        } else {
            self.fail(format!("expected `{}`, got {}", mark as char, self.found()))
        }
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if self.take_word(word) {
            Ok(())
        } else {
            self.fail(format!("expected `{word}`, got {}", self.found()))
        }
    }

    pub(super) fn name(&mut self, what: &str) -> Result<&'a str> {
        match self.peek() {
            Some(Token::Word(name)) => {
                self.at += 1;
                Ok(name)
            }
            _ => self.fail(format!("expected {what}, got {}", self.found())),
        }
    }

    /// A number without sign that fits in `u32`.
    pub(super) fn count(&mut self, what: &str) -> Result<u32> {
        if let Some(Token::Number(text)) = self.peek()
            && let Some(value) =
                super::number::integer(text).and_then(|value| u32::try_from(value).ok())
        {
            self.at += 1;
            return Ok(value);
        }
        self.fail(format!("expected {what}, got {}", self.found()))
    }

    /// Goes past everything to `mark` and it.
    pub(super) fn skip_to(&mut self, mark: u8) -> Result<()> {
        let line = self.line();
        while let Some(token) = self.next() {
            if token == Token::Mark(mark) {
                return Ok(());
            }
        }
        error(line, format!("no `{}` follows", mark as char))
    }

    /// Goes past the rest of the line: `.loc` and `.file` have no end mark.
    pub(super) fn skip_line(&mut self) {
        let line = self.line();
        while self
            .tokens
            .get(self.at)
            .is_some_and(|lexeme| lexeme.line == line)
        {
            self.at += 1;
        }
    }
}
