//! An entry: its registers, labels and instructions, with every name resolved.

use std::collections::HashMap;

use super::ast::{
    Address, Base, Entry, Instruction, LabelId, Operand, RegId, Special, VarRef, Width,
};
use super::directive::fundamental;
use super::lexer::Token;
use super::parser::Parser;
use super::{Result, error};

/// Blocks within blocks.
const MAX_DEPTH: usize = 64;

/// A name of a scope.
#[derive(Clone, Copy)]
enum Name {
    Register(RegId),
    /// `%r<12>`: so many of them.
    Registers(Width, u32),
    Variable(usize),
}

/// Names that are known from a `{` to its `}`.
#[derive(Default)]
struct Scope<'a> {
    names: HashMap<&'a str, Name>,
    /// The numbered registers in use.
    numbered: HashMap<&'a str, RegId>,
    labels: HashMap<&'a str, LabelId>,
    /// Labels named here and not seen yet, with the line of the first use.
    wanted: HashMap<&'a str, (LabelId, u32)>,
}

struct Body<'a> {
    entry: Entry<'a>,
    scopes: Vec<Scope<'a>>,
    /// For each label, the one that it turned out to be: its own number, or one of a scope further out.
    alias: Vec<LabelId>,
}

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
        let mut body = Body {
            entry,
            scopes: vec![Scope::default()],
            alias: Vec::new(),
        };
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
            Some(Token::Mark(b';')) => {
                self.next();
                Ok(())
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

impl<'a> Body<'a> {
    fn register(&mut self, width: Width) -> RegId {
        self.entry.registers.push(width);
        self.entry.registers.len() as RegId - 1
    }

    fn declare(&mut self, line: u32, name: &'a str, what: Name) -> Result<()> {
        let scope = self
            .scopes
            .last_mut()
            .expect("a body has a scope until its end");
        match scope.names.insert(name, what) {
            None => Ok(()),
            Some(_) => error(line, format!("`{name}` is declared twice")),
        }
    }

    /// What a name stands for, from the innermost scope out. A numbered register gets its own number
    /// when it is first named.
    fn lookup(&mut self, name: &'a str) -> Option<Name> {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (prefix, number) = name.split_at(name.len() - digits);
        let canonical = digits == 1 || (digits > 1 && !number.starts_with('0'));
        let number = number.parse::<u32>().ok().filter(|_| canonical);
        for at in (0..self.scopes.len()).rev() {
            let scope = &self.scopes[at];
            if let Some(found) = scope.names.get(name) {
                return Some(*found);
            }
            if let Some(register) = scope.numbered.get(name) {
                return Some(Name::Register(*register));
            }
            if let (Some(Name::Registers(width, count)), Some(number)) =
                (scope.names.get(prefix), number)
                && number < *count
            {
                let register = self.register(*width);
                self.scopes[at].numbered.insert(name, register);
                return Some(Name::Register(register));
            }
        }
        None
    }

    /// The label of that name as seen from here: a known one, or one that is to come.
    fn label(&mut self, name: &'a str, line: u32) -> LabelId {
        for scope in self.scopes.iter().rev() {
            if let Some(id) = scope.labels.get(name) {
                return *id;
            }
        }
        let next = self.alias.len() as LabelId;
        let scope = self
            .scopes
            .last_mut()
            .expect("a body has a scope until its end");
        let (id, _) = *scope.wanted.entry(name).or_insert((next, line));
        if id == next {
            self.alias.push(next);
            self.entry.labels.push(0);
        }
        id
    }

    /// Puts a label before the next instruction.
    fn place(&mut self, name: &'a str, line: u32) -> Result<LabelId> {
        let here = self.entry.code.len() as u32;
        let next = self.alias.len() as LabelId;
        let scope = self
            .scopes
            .last_mut()
            .expect("a body has a scope until its end");
        let id = match scope.wanted.remove(name) {
            Some((id, _)) => id,
            None => {
                self.alias.push(next);
                self.entry.labels.push(0);
                next
            }
        };
        self.entry.labels[id as usize] = here;
        match scope.labels.insert(name, id) {
            None => Ok(id),
            Some(_) => error(line, format!("label `{name}` is placed twice")),
        }
    }

    /// Ends a scope. Labels that it wanted may still come in the one around it.
    fn close(&mut self) -> Result<()> {
        let Some(scope) = self.scopes.pop() else {
            return Ok(());
        };
        let mut wanted: Vec<_> = scope.wanted.into_iter().collect();
        wanted.sort_by_key(|(_, (id, _))| *id);
        for (name, (id, first)) in wanted {
            let Some(outer) = self.scopes.last_mut() else {
                return error(
                    first,
                    format!("`{name}` is neither declared nor a label of this entry"),
                );
            };
            let found = outer.labels.get(name).copied();
            match (found, outer.wanted.get(name).copied()) {
                (None, None) => {
                    outer.wanted.insert(name, (id, first));
                }
                (known, waiting) => {
                    let to = known.or(waiting.map(|(id, _)| id)).unwrap_or(id);
                    self.alias[id as usize] = to;
                }
            }
        }
        if self.scopes.is_empty() {
            // Each step goes at least one scope out, so this ends after as many as scopes can nest.
            for id in 0..self.alias.len() {
                let mut to = self.alias[id];
                while self.alias[to as usize] != to {
                    to = self.alias[to as usize];
                }
                self.entry.labels[id] = self.entry.labels[to as usize];
            }
        }
        Ok(())
    }
}
