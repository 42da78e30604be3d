//! The names of an entry: what they stand for in the block where they are met.

use std::collections::HashMap;

use super::ast::{Entry, LabelId, RegId, Width};
use super::{Result, error};

/// A name of a scope.
#[derive(Clone, Copy)]
pub(super) enum Name {
    Register(RegId),
    /// `%r<12>`: so many of them.
    Registers(Width, u32),
    Variable(usize),
}

/// Names that are known from a `{` to its `}`.
#[derive(Default)]
pub(super) struct Scope<'a> {
    names: HashMap<&'a str, Name>,
    /// The numbered registers in use.
    numbered: HashMap<&'a str, RegId>,
    labels: HashMap<&'a str, LabelId>,
    /// Labels named here and not seen yet, with the line of the first use.
    wanted: HashMap<&'a str, (LabelId, u32)>,
}

/// An entry that is being read.
pub(super) struct Body<'a> {
    pub entry: Entry<'a>,
    pub scopes: Vec<Scope<'a>>,
    /// For each label, the one that it turned out to be: its own number, or one of a scope further out.
    alias: Vec<LabelId>,
}

impl<'a> Body<'a> {
    pub fn new(entry: Entry<'a>) -> Body<'a> {
        Body {
            entry,
            scopes: vec![Scope::default()],
            alias: Vec::new(),
        }
    }

    pub fn register(&mut self, width: Width) -> RegId {
        self.entry.registers.push(width);
        self.entry.registers.len() as RegId - 1
    }

    pub fn declare(&mut self, line: u32, name: &'a str, what: Name) -> Result<()> {
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
    pub fn lookup(&mut self, name: &'a str) -> Option<Name> {
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
    pub fn label(&mut self, name: &'a str, line: u32) -> LabelId {
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
    pub fn place(&mut self, name: &'a str, line: u32) -> Result<LabelId> {
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
    pub fn close(&mut self) -> Result<()> {
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
