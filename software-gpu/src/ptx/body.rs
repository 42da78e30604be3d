//! An entry: its registers, labels and instructions, with every name resolved.

use super::ast::{Address, Base, Entry, Instruction, Operand, RegId, Special, VarRef};
use super::directive::fundamental;
use super::lexer::Token;
use super::parser::Parser;
use super::scope::{Body, Name, Scope};
use super::{Result, error};

/// Blocks within blocks.
const MAX_DEPTH: usize = 64;

impl<'a> Parser<'_, 'a> {
    /// `.entry` and all of it.
    pub(super) fn entry(&mut self) -> Result<()> {
        let line = self.line();
        self.next();
        let name = self.name("an entry's name")?;
        if self.names.insert(name, None).is_some() {
            return error(line, format!("`{name}` is declared twice"));
        }
        let mut entry = Entry {
            name,
            line,
            params: Vec::new(),
            max_ntid: None,
            req_ntid: None,
            req_cluster: None,
            explicit_cluster: false,
            max_cluster: None,
            registers: Vec::new(),
            variables: Vec::new(),
            code: Vec::new(),
            labels: Vec::new(),
            tables: Vec::new(),
        };
        self.parameters(&mut entry)?;
        self.tuning(&mut entry)?;
        if self.take(b';') {
            return error(line, format!("`{name}` is declared without a body"));
        }
        self.mark(b'{')?;
        let mut body = Body::new(entry);
        while !body.scopes.is_empty() {
            self.statement(&mut body)?;
        }
        self.module.entries.push(body.entry);
        Ok(())
    }

    fn statement(&mut self, body: &mut Body<'a>) -> Result<()> {
        let line = self.line();
        match self.peek() {
            None => error(line, "the entry's body does not end"),
            Some(Token::Mark(b'{')) => {
                if body.scopes.len() == MAX_DEPTH {
                    return error(line, format!("blocks nested more than {MAX_DEPTH} deep"));
                }
                self.next();
                body.scopes.push(Scope::default());
                Ok(())
            }
            Some(Token::Mark(b'}')) => {
                self.next();
                body.close()
            }
            Some(Token::Mark(b'@')) => {
                self.next();
                let negated = self.take(b'!');
                let name = self.name("a predicate")?;
                let Some(Name::Register(register)) = body.lookup(name) else {
                    return error(
                        line,
                        format!("`{name}` is not a predicate that is declared"),
                    );
                };
                self.instruction(body, Some((register, negated)))
            }
            Some(Token::Word(word)) => match word {
                ".reg" => self.registers(body),
                ".shared" | ".local" => {
                    for variable in self.variables(false)? {
                        let id = body.entry.variables.len();
                        body.declare(variable.line, variable.name, Name::Variable(id))?;
                        body.entry.variables.push(variable);
                    }
                    Ok(())
                }
                ".loc" => {
                    self.skip_line();
                    Ok(())
                }
                ".pragma" => self.skip_to(b';'),
                _ if word.starts_with('.') => {
                    self.fail(format!("directive `{word}` is not supported in a body"))
                }
                _ if self.peek_after() == Some(Token::Mark(b':')) => {
                    self.next();
                    self.next();
                    self.label(body, word, line)
                }
                _ => self.instruction(body, None),
            },
            Some(other) => self.fail(format!("expected an instruction, got {}", other.describe())),
        }
    }

    fn label(&mut self, body: &mut Body<'a>, name: &'a str, line: u32) -> Result<()> {
        let id = body.place(name, line)?;
        if self.take_word(".branchtargets") {
            let mut targets = Vec::new();
            loop {
                let line = self.line();
                let target = self.name("a label")?;
                targets.push(body.label(target, line));
                if !self.take(b',') {
                    break;
                }
            }
            self.mark(b';')?;
            body.entry.tables.push((id, targets));
        }
        Ok(())
    }

    fn registers(&mut self, body: &mut Body<'a>) -> Result<()> {
        self.next();
        let name = self.name("a type")?;
        let width = match fundamental(name) {
            Some((_, Some(width))) => width,
            Some(_) => return self.fail(format!("registers of type `{name}` are not supported")),
            None => return self.fail(format!("`{name}` is no type for a register")),
        };
        loop {
            let line = self.line();
            let name = self.name("a register's name")?;
            if self.take(b'<') {
                let count = self.count("a number of registers")?;
                self.mark(b'>')?;
                body.declare(line, name, Name::Registers(width, count))?;
            } else {
                let id = body.register(width);
                body.declare(line, name, Name::Register(id))?;
            }
            if !self.take(b',') {
                break;
            }
        }
        self.mark(b';')
    }

    fn instruction(&mut self, body: &mut Body<'a>, guard: Option<(RegId, bool)>) -> Result<()> {
        let line = self.line();
        let opcode = self.name("an instruction")?;
        if opcode == "call" || opcode.starts_with("call.") {
            return error(
                line,
                "calls are not supported: the kernel must be inlined whole",
            );
        }
        let mut operands = Vec::new();
        if !self.take(b';') {
            loop {
                if operands.len() == 16 {
                    return self.fail("more than 16 operands");
                }
                operands.push(self.operand(body, 0)?);
                if !self.take(b',') {
                    break;
                }
            }
            self.mark(b';')?;
        }
        body.entry.code.push(Instruction {
            line,
            guard,
            opcode,
            operands,
        });
        Ok(())
    }

    fn operand(&mut self, body: &mut Body<'a>, depth: u32) -> Result<Operand> {
        if depth > 2 {
            return self.fail("an operand nested too deep");
        }
        let line = self.line();
        let operand = match self.peek() {
            Some(Token::Mark(b'[')) => {
                self.next();
                let address = self.address(body)?;
                self.mark(b']')?;
                return Ok(Operand::Address(address));
            }
            Some(Token::Mark(b'{')) => {
                self.next();
                let mut elements = Vec::new();
                loop {
                    if elements.len() == 8 {
                        return self.fail("a vector of more than 8 elements");
                    }
                    elements.push(self.operand(body, depth + 1)?);
                    if !self.take(b',') {
                        break;
                    }
                }
                self.mark(b'}')?;
                return Ok(Operand::Vector(elements));
            }
            Some(Token::Mark(b'!')) => {
                self.next();
                let name = self.name("a predicate")?;
                let Some(Name::Register(register)) = body.lookup(name) else {
                    return error(line, format!("`{name}` is not a register that is declared"));
                };
                Operand::Not(register)
            }
            Some(Token::Number(_) | Token::Mark(b'-' | b'+')) => self.constant()?,
            Some(Token::Word("_")) => {
                self.next();
                Operand::Sink
            }
            Some(Token::Word("WARP_SZ")) => {
                self.next();
                Operand::Integer(32)
            }
            Some(Token::Word(name)) => {
                self.next();
                match self.resolve(body, name) {
                    Some(Base::Register(register)) => Operand::Register(register),
                    Some(Base::Variable(variable)) => Operand::Variable(variable, self.offset()?),
                    Some(_) => {
                        return error(
                            line,
                            format!("parameter `{name}` can only be an address of ld.param"),
                        );
                    }
                    None => match Special::by_name(name) {
                        Some(special) => Operand::Special(special),
                        None if name.starts_with('%') => {
                            return error(
                                line,
                                format!("`{name}` is neither declared nor a special register"),
                            );
                        }
                        None => Operand::Label(body.label(name, line)),
                    },
                }
            }
            Some(other) => {
                return self.fail(format!("expected an operand, got {}", other.describe()));
            }
            None => return self.fail("expected an operand, got the end of the text"),
        };
        if self.take(b'|') {
            let second = self.operand(body, depth + 1)?;
            return Ok(Operand::Pair(Box::new(operand), Box::new(second)));
        }
        Ok(operand)
    }

    fn resolve(&self, body: &mut Body<'a>, name: &'a str) -> Option<Base> {
        match body.lookup(name) {
            Some(Name::Register(register)) => return Some(Base::Register(register)),
            Some(Name::Variable(id)) => return Some(Base::Variable(VarRef::Entry(id))),
            _ => {}
        }
        if let Some(param) = body
            .entry
            .params
            .iter()
            .position(|param| param.name == name)
        {
            return Some(Base::Param(param));
        }
        self.names.get(name).copied().flatten().map(Base::Variable)
    }

    fn address(&mut self, body: &mut Body<'a>) -> Result<Address> {
        if let Some(Token::Word(name)) = self.peek() {
            let Some(base) = self.resolve(body, name) else {
                return self.fail(format!("`{name}` is not declared"));
            };
            self.next();
            return Ok(Address {
                base,
                offset: self.offset()?,
            });
        }
        match self.constant()? {
            Operand::Integer(value) => Ok(Address {
                base: Base::Zero,
                offset: value as i64,
            }),
            _ => self.fail("an address is a whole number"),
        }
    }

    /// `+4`, `+-4`, `-4` or nothing.
    fn offset(&mut self) -> Result<i64> {
        let Some(Token::Mark(b'+' | b'-')) = self.peek() else {
            return Ok(0);
        };
        if self.peek() == Some(Token::Mark(b'+')) && self.peek_after() == Some(Token::Mark(b'-')) {
            self.next();
        }
        match self.constant()? {
            Operand::Integer(value) => Ok(value as i64),
            _ => self.fail("an offset is a whole number"),
        }
    }
}
