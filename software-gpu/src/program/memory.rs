//! Decoding of memory instructions: loads, stores, atomics, and the moves between address spaces.

use super::convert::register_bits;
use super::decode::{Decoder, Form};
use super::names::{Arith, Class, Kind, Type};
use super::{Access, Initial, Op, Slot};
use crate::ptx::Result;
use crate::ptx::ast::{Address, Base, Operand, Space};

/// Where shared memory lies among generic addresses.
pub(crate) const SHARED_WINDOW: u64 = 0x1_0000_0000;
/// Where local memory lies among generic addresses.
pub(crate) const LOCAL_WINDOW: u64 = 0x2_0000_0000;
/// Bytes of each window.
pub(crate) const WINDOW: u64 = 0x2000_0000;
/// Bits of an address in a block's shared memory. Above them stands, in addresses of a cluster's shared
/// memory, the block's rank plus one, or nothing for the block itself.
pub(crate) const BLOCK_SHIFT: u32 = 24;

impl<'a> Decoder<'a> {
    /// Decodes the instruction if it is of this group.
    pub(super) fn memory(&mut self, head: &str, form: &mut Form<'_, 'a>) -> Result<bool> {
        match head {
            "ld" | "ldu" => self.load(form)?,
            "st" => self.store(form)?,
            "atom" | "red" => self.atomic(form, head == "atom")?,
            "cvta" => self.cvta(form)?,
            "prefetch" | "prefetchu" | "applypriority" => self.hint(form),
            "fence" | "membar" => self.fence(form),
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn space(form: &mut Form<'_, 'a>) -> Space {
        form.take_some(|name| {
            Some(match name {
                "global" => Space::Global,
                "const" => Space::Const,
                "shared" | "shared::cta" => Space::Shared,
                "shared::cluster" => Space::Cluster,
                "local" => Space::Local,
                "param" | "param::entry" => Space::Param,
                _ => return None,
            })
        })
        .unwrap_or(Space::Generic)
    }

    /// Takes hints out that change nothing but speed. True if the access is a strong one.
    pub(super) fn order(form: &mut Form<'_, 'a>) -> bool {
        let strong = form
            .take_some(|name| {
                matches!(
                    name,
                    "volatile" | "relaxed" | "acquire" | "release" | "acq_rel"
                )
                .then_some(())
            })
            .is_some();
        form.take("weak");
        for scope in ["cta", "cluster", "gpu", "sys"] {
            form.take(scope);
        }
        strong
    }

    pub(super) fn cache_hints(form: &mut Form<'_, 'a>) {
        let known = |name: &str| {
            let cache = ["ca", "cg", "cs", "lu", "cv", "wb", "wt"].contains(&name);
            (cache || name.starts_with("L1::") || name.starts_with("L2::")).then_some(())
        };
        while form.take_some(known).is_some() {}
    }

    pub(super) fn vector(form: &mut Form<'_, 'a>) -> Option<usize> {
        form.take_some(|name| {
            Some(match name {
                "v2" => 2,
                "v4" => 4,
                "v8" => 8,
                _ => return None,
            })
        })
    }

    pub(super) fn address(
        &mut self,
        form: &Form<'_, 'a>,
        operand: &Operand,
        space: Space,
    ) -> Result<(Slot, i64)> {
        let Operand::Address(Address { base, offset }) = *operand else {
            return form.fail(format!("`{}` needs an address in brackets", form.opcode));
        };
        match base {
            Base::Register(register) => {
                let slot = self.slots.register(form.line, register)?;
                let bits = register_bits(self.slots.width(register));
                let short = matches!(
                    space,
                    Space::Shared | Space::Cluster | Space::Local | Space::Const
                );
                if bits == 64 || (bits == 32 && short) {
                    Ok((slot, offset))
                } else {
                    form.fail(format!("an address of {bits} bits"))
                }
            }
            Base::Variable(variable) => {
                let address = self.slots.placement.of(variable);
                Ok((self.slots.constant(form.line, Class::R64, address)?, offset))
            }
            Base::Zero => Ok((self.slots.constant(form.line, Class::R64, 0)?, offset)),
            Base::Param(_) => form.fail("a parameter is read by ld.param alone"),
        }
    }

    /// The registers of a vector operand, or the one.
    pub(super) fn data(
        &mut self,
        form: &Form<'_, 'a>,
        operand: &Operand,
        count: Option<usize>,
        ty: Type,
        write: bool,
    ) -> Result<(Vec<Option<Slot>>, u8)> {
        let list = match (operand, count) {
            (Operand::Vector(list), Some(count)) if list.len() == count => &list[..],
            (Operand::Vector(list), _) => {
                return form.fail(format!("a vector of {} elements", list.len()));
            }
            (_, None) => std::slice::from_ref(operand),
            (_, Some(count)) => {
                return form.fail(format!("a vector of {count} elements is needed"));
            }
        };
        let mut out = Vec::new();
        let mut bits = ty.bits().max(16);
        for operand in list {
            out.push(match operand {
                Operand::Sink if write => None,
                Operand::Register(register) => {
                    // Wider registers are allowed for every type in memory, floats' bits too.
                    let width = register_bits(self.slots.width(*register));
                    if width < ty.bits().max(16) || (ty.is_float() && width != ty.bits()) {
                        return form.fail(format!("a register of {width} bits for {ty:?}"));
                    }
                    bits = width;
                    Some(self.slots.register(form.line, *register)?)
                }
                _ if write => return form.fail("a register to write is needed"),
                Operand::Integer(value) => {
                    let mask = if ty.bits() == 64 {
                        u64::MAX
                    } else {
                        (1 << ty.bits()) - 1
                    };
                    Some(self.slots.constant(form.line, ty.class(), value & mask)?)
                }
                _ => Some(self.slots.source(form.line, operand, ty)?),
            });
        }
        Ok((out, bits as u8))
    }

    fn load(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(
            ty.bits() != 0 && !matches!(ty, Type::F16x2 | Type::BF16x2),
            ty,
        )?;
        let space = Self::space(form);
        let strong = Self::order(form);
        let read_only = space == Space::Global && form.take("nc");
        Self::cache_hints(form);
        let count = Self::vector(form);
        let [to, from] = form.operands()?;
        let (data, bits) = self.data(form, to, count, ty, true)?;
        if space == Space::Param {
            return self.load_param(form, data, bits, ty, from);
        }
        let (base, offset) = self.address(form, from, space)?;
        let access = Access {
            space,
            base,
            offset,
            ty,
            data,
            bits,
            atomic: None,
            strong,
            read_only,
        };
        self.check_size(form, &access)?;
        let access = self.access(access);
        self.emit(form, Op::Load { access });
        Ok(())
    }

    /// Parameters are known when the launch is: a load of one is a copy of a slot.
    fn load_param(
        &mut self,
        form: &Form<'_, 'a>,
        data: Vec<Option<Slot>>,
        bits: u8,
        ty: Type,
        from: &Operand,
    ) -> Result<()> {
        let Operand::Address(Address {
            base: Base::Param(param),
            offset,
        }) = *from
        else {
            return form.fail(
                "ld.param needs a parameter's name: its address in a register is not supported",
            );
        };
        let param = &self.slots.entry.params[param];
        let bytes = u64::from(ty.bytes()) * data.len() as u64;
        let inside = u64::try_from(offset)
            .ok()
            .filter(|at| at.saturating_add(bytes) <= param.size.into());
        let Some(at) = inside else {
            return form.fail(format!(
                "{bytes} bytes at {offset} of parameter `{}` of {} bytes",
                param.name, param.size
            ));
        };
        let mut at = param.offset + at as u32;
        if !u64::from(at).is_multiple_of(bytes) {
            return form.fail(format!(
                "a read of {bytes} bytes at byte {at} of the parameters is misaligned"
            ));
        }
        for slot in data {
            if let Some(d) = slot {
                let initial = Initial::Param {
                    offset: at,
                    ty,
                    bits,
                };
                let a = self.slots.initial(form.line, d.class, initial)?;
                self.copy(form, d, a);
            }
            at += ty.bytes();
        }
        Ok(())
    }

    pub(super) fn check_size(&self, form: &Form<'_, 'a>, access: &Access) -> Result<()> {
        match access.bytes() {
            bytes @ ..=16 if bytes.is_power_of_two() => Ok(()),
            32 if access.space == Space::Global => Ok(()),
            bytes => form.fail(format!("an access of {bytes} bytes a lane")),
        }
    }

    pub(super) fn access(&mut self, access: Access) -> u32 {
        self.program.accesses.push(access);
        self.program.accesses.len() as u32 - 1
    }

    fn store(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(
            ty.bits() != 0 && !matches!(ty, Type::F16x2 | Type::BF16x2),
            ty,
        )?;
        let space = Self::space(form);
        if matches!(space, Space::Const | Space::Param) {
            return form.fail(format!("`{}`: that space cannot be written", form.opcode));
        }
        let strong = Self::order(form);
        Self::cache_hints(form);
        let count = Self::vector(form);
        let [to, from] = form.operands()?;
        let (base, offset) = self.address(form, to, space)?;
        let (data, bits) = self.data(form, from, count, ty, false)?;
        let access = Access {
            space,
            base,
            offset,
            ty,
            data,
            bits,
            atomic: None,
            strong,
            read_only: false,
        };
        self.check_size(form, &access)?;
        let access = self.access(access);
        self.emit(form, Op::Store { access });
        Ok(())
    }

    /// Generic addresses are global addresses, but for two windows.
    fn cvta(&mut self, form: &mut Form<'_, 'a>) -> Result<()> {
        let ty = form.ty()?;
        form.typed(ty == Type::U64, ty)?;
        let to = form.take("to");
        let window = match Self::space(form) {
            Space::Global | Space::Const | Space::Param => 0,
            Space::Shared | Space::Cluster => SHARED_WINDOW,
            Space::Local => LOCAL_WINDOW,
            Space::Generic => return form.fail("cvta names no space"),
        };
        let [d, a] = form.operands()?;
        let a = self.slots.source(form.line, a, ty)?;
        let d = self.slots.target(form.line, d, ty)?;
        if window == 0 {
            self.emit(
                form,
                Op::Mov64 {
                    d: d.index,
                    a: a.index,
                },
            );
            return Ok(());
        }
        let b = self.slots.constant(form.line, Class::R64, window)?;
        let kind = if to { Kind::Sub } else { Kind::Add };
        self.emit(
            form,
            Op::Arith {
                op: Arith::plain(kind, ty),
                d,
                a,
                b,
                c: b,
            },
        );
        Ok(())
    }

    /// Hints to the caches. Their address need not be good, so nothing is done.
    fn hint(&mut self, form: &mut Form<'_, 'a>) {
        Self::space(form);
        Self::cache_hints(form);
        while form
            .take_some(|name| matches!(name, "L1" | "L2" | "tensormap").then_some(()))
            .is_some()
        {}
        self.emit(form, Op::Nop);
    }

    fn fence(&mut self, form: &mut Form<'_, 'a>) {
        let known = [
            "sc", "acq_rel", "acquire", "release", "cta", "cluster", "gpu", "sys", "gl",
        ];
        while form
            .take_some(|name| known.contains(&name).then_some(()))
            .is_some()
        {}
        self.emit(form, Op::Fence);
    }
}
