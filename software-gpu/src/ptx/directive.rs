//! Declarations: variables with their initialisers, parameters, performance directives.

use super::Result;
use super::ast::{Entry, Operand, ParamDecl, Relocation, Space, VarRef, Variable, Width};
use super::lexer::Token;
use super::number;
use super::parser::Parser;

/// The most bytes that a variable may have: far more than any device's, and sums of a few never overflow.
const MAX_VARIABLE: u64 = 1 << 40;

/// Bytes of a fundamental type, and the width of a register of that type.
pub(super) fn fundamental(name: &str) -> Option<(u32, Option<Width>)> {
    Some(match name {
        ".pred" => (0, Some(Width::Pred)),
        ".b8" | ".u8" | ".s8" => (1, None),
        ".b16" | ".u16" | ".s16" | ".f16" | ".bf16" => (2, Some(Width::W16)),
        ".b32" | ".u32" | ".s32" | ".f32" | ".f16x2" | ".bf16x2" => (4, Some(Width::W32)),
        ".b64" | ".u64" | ".s64" | ".f64" => (8, Some(Width::W64)),
        ".b128" => (16, None),
        _ => return None,
    })
}

impl<'a> Parser<'_, 'a> {
    fn space(&mut self) -> Result<Space> {
        let space = match self.peek() {
            Some(Token::Word(".global")) => Space::Global,
            Some(Token::Word(".const")) => Space::Const,
            Some(Token::Word(".shared")) => Space::Shared,
            Some(Token::Word(".local")) => Space::Local,
            _ => return self.fail("expected a state space"),
        };
        self.next();
        Ok(space)
    }

    fn alignment(&mut self) -> Result<Option<u32>> {
        if !self.take_word(".align") {
            return Ok(None);
        }
        let align = self.count("an alignment")?;
        if !align.is_power_of_two() || align > 1 << 16 {
            return self.fail(format!(
                "an alignment is a power of two of at most 65536, got {align}"
            ));
        }
        Ok(Some(align))
    }

    /// A declaration of variables, up to its semicolon.
    pub(super) fn variables(&mut self, is_extern: bool) -> Result<Vec<Variable<'a>>> {
        let space = self.space()?;
        let mut align = self.alignment()?;
        // `.attribute(.managed)` and the like change how a variable is placed, which is not known here.
        let mut lanes = 1;
        let mut name = self.name("a type")?;
        if let ".v2" | ".v4" = name {
            lanes = if name == ".v2" { 2 } else { 4 };
            name = self.name("a type")?;
        }
        let Some((bytes, _)) = fundamental(name).filter(|(bytes, _)| *bytes != 0) else {
            return self.fail(format!("`{name}` is no type for a variable in memory"));
        };
        let element = bytes * lanes;
        let align = *align.get_or_insert(element);
        let mut out = Vec::new();
        loop {
            let line = self.line();
            let name = self.name("a variable's name")?;
            let mut size = u64::from(element);
            let mut dimensions = 0;
            while self.take(b'[') {
                dimensions += 1;
                if self.take(b']') {
                    size = 0;
                    continue;
                }
                let count = self.count("an array's length")?;
                self.mark(b']')?;
                size = match size.checked_mul(count.into()) {
                    Some(size) if size <= MAX_VARIABLE => size,
                    _ => return self.fail(format!("`{name}` has more than {MAX_VARIABLE} bytes")),
                };
            }
            let mut variable = Variable {
                line,
                name,
                space,
                align,
                size,
                is_extern,
                init: Vec::new(),
                relocations: Vec::new(),
            };
            if self.take(b'=') {
                if !matches!(space, Space::Global | Space::Const) {
                    return self.fail("only variables in .global and .const have initialisers");
                }
                let open_ended = dimensions > 0 && size == 0;
                self.initialiser(&mut variable, bytes, 0)?;
                if open_ended {
                    variable.size = variable.init.len() as u64;
                }
                if variable.init.len() as u64 > variable.size {
                    return self.fail(format!(
                        "the initialiser of `{name}` has {} bytes, the variable {}",
                        variable.init.len(),
                        variable.size
                    ));
                }
            }
            if variable.size == 0 && !is_extern {
                return self.fail(format!("`{name}` has no bytes"));
            }
            out.push(variable);
            if !self.take(b',') {
                break;
            }
        }
        self.mark(b';')?;
        Ok(out)
    }

    /// A value or a list of them in braces; inner braces of arrays of arrays only group.
    fn initialiser(&mut self, variable: &mut Variable<'a>, element: u32, depth: u32) -> Result<()> {
        if depth > 8 {
            return self.fail("an initialiser nested more than 8 deep");
        }
        if self.take(b'{') {
            while !self.take(b'}') {
                self.initialiser(variable, element, depth + 1)?;
                if !self.take(b',') {
                    self.mark(b'}')?;
                    break;
                }
            }
            return Ok(());
        }
        let line = self.line();
        let bits = match self.peek() {
            Some(Token::Word("generic")) => {
                self.next();
                self.mark(b'(')?;
                self.reference(variable, element, line)?;
                return self.mark(b')');
            }
            Some(Token::Word(_)) => return self.reference(variable, element, line),
            _ => self.constant()?,
        };
        let bits = match (bits, element) {
            // There are no values of 16 bytes.
            (Operand::Integer(value), ..=8) => value,
            (Operand::F32(bits), 4) => bits.into(),
            (Operand::F64(bits), 8) => bits,
            (Operand::F64(bits), 4) => (f64::from_bits(bits) as f32).to_bits().into(),
            _ => return self.fail("the initialiser's value does not fit the type"),
        };
        variable
            .init
            .extend_from_slice(&bits.to_le_bytes()[..element as usize]);
        Ok(())
    }

    fn reference(&mut self, variable: &mut Variable<'a>, element: u32, line: u32) -> Result<()> {
        let name = self.name("a variable")?;
        let Some(Some(VarRef::Module(id))) = self.names.get(name).copied() else {
            return self.fail(format!("`{name}` is not a variable declared before"));
        };
        let mut addend = 0;
        if self.take(b'+') {
            addend = self.count("an offset")?.into();
        }
        if element != 8 {
            return self.fail("an address needs an element of 8 bytes");
        }
        variable.relocations.push(Relocation {
            at: variable.init.len() as u64,
            variable: id,
            addend,
            line,
        });
        variable.init.extend_from_slice(&[0; 8]);
        Ok(())
    }

    /// A literal with its sign.
    pub(super) fn constant(&mut self) -> Result<Operand> {
        let negative = self.take(b'-');
        if !negative {
            self.take(b'+');
        }
        let Some(Token::Number(text)) = self.peek() else {
            return self.fail("expected a number");
        };
        let value = number::literal(text);
        let value = if negative {
            value.and_then(number::negate)
        } else {
            value
        };
        match value {
            Some(value) => {
                self.next();
                Ok(value)
            }
            None => self.fail(format!("`{text}` is not a number")),
        }
    }

    /// The parameters in parentheses.
    pub(super) fn parameters(&mut self, entry: &mut Entry<'a>) -> Result<()> {
        if !self.take(b'(') || self.take(b')') {
            return Ok(());
        }
        let mut end = 0u32;
        loop {
            if !self.take_word(".param") {
                return self.fail("expected `.param`");
            }
            let mut align = self.alignment()?;
            let name = self.name("a type")?;
            let Some((bytes, _)) = fundamental(name).filter(|(bytes, _)| *bytes != 0) else {
                return self.fail(format!("`{name}` is no type for a parameter"));
            };
            // Where the pointer points to: a promise to the optimiser.
            if self.take_word(".ptr") {
                while let Some(Token::Word(
                    ".global" | ".const" | ".shared" | ".local" | ".generic",
                )) = self.peek()
                {
                    self.next();
                }
                self.alignment()?;
            }
            align = align.or(self.alignment()?);
            let name = self.name("a parameter's name")?;
            let mut size = bytes;
            while self.take(b'[') {
                let count = self.count("an array's length")?;
                self.mark(b']')?;
                size = size.saturating_mul(count);
            }
            let align = align.unwrap_or(bytes);
            let offset = end.next_multiple_of(align);
            // What sm_70 and later allow from PTX 8.1 on; 4352 before.
            if offset > 32764 || size > 32764 - offset {
                return self.fail("the parameters have more than 32764 bytes");
            }
            end = offset + size;
            if entry.params.iter().any(|param| param.name == name) {
                return self.fail(format!("parameter `{name}` is declared twice"));
            }
            entry.params.push(ParamDecl {
                name,
                offset,
                size,
                align,
            });
            if !self.take(b',') {
                break;
            }
        }
        self.mark(b')')
    }

    /// Performance directives between the parameters and the body.
    pub(super) fn tuning(&mut self, entry: &mut Entry<'a>) -> Result<()> {
        loop {
            match self.peek() {
                Some(Token::Word(".maxntid")) => {
                    self.next();
                    entry.max_ntid = Some(self.three()?);
                }
                Some(Token::Word(".reqntid")) => {
                    self.next();
                    entry.req_ntid = Some(self.three()?);
                }
                Some(Token::Word(".reqnctapercluster")) => {
                    self.next();
                    entry.req_cluster = Some(self.three()?);
                }
                Some(Token::Word(".explicitcluster")) => {
                    self.next();
                    entry.explicit_cluster = true;
                }
                Some(Token::Word(".maxclusterrank")) => {
                    self.next();
                    entry.max_cluster = Some(self.count("a number of blocks")?);
                }
                Some(Token::Word(".minnctapersm" | ".maxnreg" | ".maxnctapersm")) => {
                    self.next();
                    self.count("a number")?;
                }
                Some(Token::Word(".pragma")) => self.skip_to(b';')?,
                Some(Token::Word(".noreturn")) => {
                    self.next();
                }
                _ => return Ok(()),
            }
        }
    }

    fn three(&mut self) -> Result<[u32; 3]> {
        let mut out = [1; 3];
        for (i, slot) in out.iter_mut().enumerate() {
            if i > 0 && !self.take(b',') {
                break;
            }
            *slot = self.count("a number")?;
        }
        Ok(out)
    }
}
