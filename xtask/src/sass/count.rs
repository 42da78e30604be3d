//! What a kernel's machine code is made of: nvdisasm's listing, counted.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// Instructions of one kernel on one device, by what they do. Numbers of instructions in the code, not of
/// executions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them, the subroutines that ptxas adds included.
    pub instructions: u32,
    /// Loads from global memory: 16 bytes a lane or more, 8, 4, less.
    pub loads: [u32; 4],
    /// Stores to global memory, likewise.
    pub stores: [u32; 4],
    /// Asynchronous copies from global to shared memory, a lane's or in bulk.
    pub copies: u32,
    pub shared_loads: u32,
    pub shared_stores: u32,
    pub barriers: u32,
    pub shuffles: u32,
    /// Accesses whose memory is only known when they run; those of other blocks' shared memory are such.
    pub generic: u32,
    /// Accesses to local memory.
    pub local: u32,
    /// Atomics and reductions in memory.
    pub atomics: u32,
    /// Calls of ptxas's own routines, for exact division and square roots. What a shuffle calls where a warp has
    /// parted is not counted: ours have not.
    pub calls: u32,
    /// Conversions from floating point to an integer, of which an integer division has one.
    pub to_integer: u32,
    pub traps: u32,
}

/// Counts of every kernel in a listing of `nvdisasm -c`, by name:
///
/// ```text
/// .text.layernorm_reduce_f32:
///         /*0000*/                   LDC R1, c[0x0][0x28] ;
///         /*0080*/              @!P0 EXIT ;
/// ```
pub fn parse(listing: &str) -> Result<BTreeMap<String, Counts>> {
    let mut kernels: BTreeMap<String, Counts> = BTreeMap::new();
    let mut kernel = None;
    for line in listing.lines() {
        let text = line.trim();
        if let Some(name) = text.strip_prefix(".text.") {
            let name = name.strip_suffix(':').unwrap_or(name);
            kernel = Some(kernels.entry(name.to_owned()).or_default());
        } else if let Some((_, instruction)) = address_and_rest(text) {
            let Some(kernel) = &mut kernel else {
                bail!("an instruction before the first kernel: {text}");
            };
            kernel.add(instruction);
        }
    }
    Ok(kernels)
}

/// `/*0080*/  @!P0 EXIT ;` to `0080` and `EXIT ;`.
fn address_and_rest(text: &str) -> Option<(&str, &str)> {
    let (address, rest) = text.strip_prefix("/*")?.split_once("*/")?;
    if !address.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix('@') {
        Some(predicated) => predicated.split_once(' ').map_or("", |(_, rest)| rest),
        None => rest,
    };
    let rest = rest.trim_start();
    (!rest.is_empty()).then_some((address, rest))
}

impl Counts {
    fn add(&mut self, instruction: &str) {
        let end = instruction.find([' ', ';']).unwrap_or(instruction.len());
        let (opcode, operands) = instruction.split_at(end);
        let mut parts = opcode.split('.');
        let name = parts.next().unwrap_or_default();
        self.instructions += 1;
        match name {
            "LDG" => self.loads[width(parts)] += 1,
            "STG" => self.stores[width(parts)] += 1,
            "LDGSTS" | "UBLKCP" => self.copies += 1,
            "LDS" | "LDSM" => self.shared_loads += 1,
            "STS" => self.shared_stores += 1,
            "BAR" => self.barriers += 1,
            "SHFL" => self.shuffles += 1,
            "LD" | "ST" => self.generic += 1,
            "LDL" | "STL" => self.local += 1,
            "ATOM" | "ATOMG" | "ATOMS" | "RED" | "REDG" | "REDAS" => self.atomics += 1,
            "CALL" if operands.contains("__cuda_sm20_") => self.calls += 1,
            "F2I" => self.to_integer += 1,
            "BPT" => self.traps += 1,
            _ => {}
        }
    }
}

/// The index in [`Counts::loads`] for an access's modifiers.
fn width<'a>(modifiers: impl Iterator<Item = &'a str>) -> usize {
    for modifier in modifiers {
        match modifier {
            "128" | "256" => return 0,
            "64" => return 1,
            "U16" | "S16" | "U8" | "S8" | "16" => return 3,
            _ => {}
        }
    }
    2
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
\t.section\t.text.copy,\"ax\",@progbits
copy:
.text.copy:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0020*/               @P0 LDG.E.U16 R4, [R2] ;
.L_x_1:
        /*0030*/                   STG.E desc[UR4][R2.64], R4 ;
        /*0040*/                   CALL.REL.NOINC `($__internal_0_$__cuda_sm20_dblrcp_rn_slowpath_v3) ;
        /*0050*/                   CALL.REL.NOINC `($__internal_1_$__cuda_sm70_shflsync_bfly) ;
        /*0060*/                   CALL.REL.NOINC `(.L_x_1) ;
        /*0070*/                   LDGSTS.E.BYPASS.128 [R0], desc[UR4][R2.64] ;
        /*0080*/                   EXIT ;
\t.section\t.text.other,\"ax\",@progbits
.text.other:
        /*0000*/                   STL [R1], R2 ;
        /*0010*/                   F2I.FTZ.U32.TRUNC.NTZ R3, R2 ;
        /*0020*/                   BPT.TRAP 0x1 ;
        /*0030*/                   LD.E R3, [R2] ;
";

    #[test]
    fn instructions_are_counted_per_kernel() {
        let kernels = parse(LISTING).unwrap();
        assert_eq!(kernels.keys().collect::<Vec<_>>(), ["copy", "other"]);
        let copy = Counts {
            instructions: 9,
            loads: [1, 0, 0, 1],
            stores: [0, 0, 1, 0],
            copies: 1,
            calls: 1,
            ..Counts::default()
        };
        assert_eq!(kernels["copy"], copy);
        let other = Counts {
            instructions: 4,
            local: 1,
            to_integer: 1,
            traps: 1,
            generic: 1,
            ..Counts::default()
        };
        assert_eq!(kernels["other"], other);
    }

    #[test]
    fn an_instruction_of_no_kernel_is_an_error() {
        assert!(parse("/*0000*/ EXIT ;").is_err());
    }
}
