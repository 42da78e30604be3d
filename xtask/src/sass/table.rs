//! The table of one device: a line a kernel, so that a change of a kernel is a changed line in review.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::count::Counts;

/// A kernel on one device: its name, what ptxas says, what its code is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    pub name: String,
    pub registers: u32,
    /// Static shared memory of a block, in bytes.
    pub shared: u32,
    pub counts: Counts,
}

/// All kernels' names start with it, so the table leaves it out.
const PREFIX: &str = "layernorm_";

/// The heads of the columns, and under `LDG` and `STG` the bytes of a lane's access.
const HEADS: [&str; 18] = [
    "regs", "smem", "instr", "LDG16", "8", "4", "2", "STG16", "8", "4", "2", "LDGSTS", "LDS",
    "STS", "BAR", "SHFL", "GEN", "calls",
];

impl Kernel {
    fn short_name(&self) -> &str {
        self.name.strip_prefix(PREFIX).unwrap_or(&self.name)
    }

    fn cells(&self) -> [u32; HEADS.len()] {
        let Counts {
            instructions,
            loads: [l16, l8, l4, l2],
            stores: [s16, s8, s4, s2],
            copies,
            shared_loads,
            shared_stores,
            barriers,
            shuffles,
            generic,
            calls,
            ..
        } = self.counts;
        [
            self.registers,
            self.shared,
            instructions,
            l16,
            l8,
            l4,
            l2,
            s16,
            s8,
            s4,
            s2,
            copies,
            shared_loads,
            shared_stores,
            barriers,
            shuffles,
            generic,
            calls,
        ]
    }

    /// What no kernel may have, in words.
    pub fn complaints(&self, device: &str) -> Vec<String> {
        let counts = &self.counts;
        let half_access = counts.loads[3] + counts.stores[3];
        // Exact f64 division and square root have a routine for hard operands; f64 rows call it once each.
        let may_call = self.name.contains("_f64");
        // Their rows start and end at multiples of 16 bytes.
        let is_aligned = ["_rows_", "_shared_", "_cluster_"]
            .iter()
            .any(|variant| self.name.contains(variant));
        [
            (counts.local, "accesses to local memory"),
            (counts.traps, "traps, of a bounds check or an overflow"),
            (counts.to_integer, "conversions to integers, of a division"),
            (counts.atomics, "atomics, whose order is no order"),
            (
                if may_call { 0 } else { counts.calls },
                "calls of a division or a square root",
            ),
            (
                if is_aligned { half_access } else { 0 },
                "accesses of 2 bytes to aligned rows",
            ),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} on {device}: {count} {what}", self.name))
        .collect()
    }
}

/// The table's text. The first line says whose code it is.
pub fn text(device: &str, assembler: &str, kernels: &[Kernel]) -> String {
    let mut rows: Vec<(&str, [String; HEADS.len()])> = vec![("kernel", HEADS.map(str::to_owned))];
    rows.extend(kernels.iter().map(|kernel| {
        let cells = kernel.cells().map(|count| match count {
            0 => ".".to_owned(),
            count => count.to_string(),
        });
        (kernel.short_name(), cells)
    }));
    let name_width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let widths: [usize; HEADS.len()] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|(_, cells)| cells[column].len());
        cells.max().unwrap_or(0)
    });
    let mut text = format!("# {device}, {assembler}. Made by `cargo xtask sass`.\n");
    for (name, cells) in rows {
        let _ = write!(text, "{name:name_width$}");
        for (cell, width) in cells.iter().zip(widths) {
            let _ = write!(text, " {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

/// The lines in which two tables differ, kernel by kernel; empty where they do not.
pub fn difference(committed: &str, made: &str) -> String {
    /// Lines that are shown of one table; a change of a tile changes a few, a new compiler all.
    const SHOWN: usize = 30;
    let lines = |text: &str| -> BTreeMap<String, String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        text.lines()
            .map(words)
            .map(|line| (name(&line), line))
            .collect()
    };
    let (old, new) = (lines(committed), lines(made));
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let mut shown = Vec::new();
    for name in names {
        let (old, new) = (old.get(name), new.get(name));
        if old != new {
            shown.extend(old.map(|line| format!("- {line}")));
            shown.extend(new.map(|line| format!("+ {line}")));
        }
    }
    let more = shown.len().saturating_sub(SHOWN);
    shown.truncate(SHOWN);
    if more > 0 {
        shown.push(format!("and {more} more lines"));
    }
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(name: &str, registers: u32) -> Kernel {
        Kernel {
            name: format!("layernorm_{name}"),
            registers,
            ..Kernel::default()
        }
    }

    #[test]
    fn a_change_is_a_changed_line() {
        let old = text("sm_90", "ptxas 1", &[kernel("a", 30), kernel("b", 40)]);
        assert!(old.starts_with("# sm_90, ptxas 1."), "{old}");
        assert_eq!(old.lines().count(), 4);
        assert_eq!(difference(&old, &old), "");
        let kernels = [kernel("a", 30), kernel("b", 41), kernel("long_name", 1)];
        let new = text("sm_90", "ptxas 1", &kernels);
        let difference = difference(&old, &new);
        let heads: Vec<_> = difference.lines().map(|line| &line[..4]).collect();
        assert_eq!(heads, ["- b ", "+ b ", "+ lo"], "{difference}");
    }

    #[test]
    fn what_no_kernel_may_have_is_told() {
        let with = |name: &str, counts| Kernel {
            counts,
            ..kernel(name, 1)
        };
        let call = Counts {
            calls: 1,
            ..Counts::default()
        };
        assert_eq!(
            with("forward_f64_f64_any", call.clone()).complaints("sm_75"),
            [""; 0]
        );
        assert_eq!(
            with("forward_f32_f32_any", call).complaints("sm_75"),
            ["layernorm_forward_f32_f32_any on sm_75: 1 calls of a division or a square root"]
        );
        let bad = Counts {
            local: 2,
            traps: 1,
            to_integer: 1,
            loads: [0, 0, 0, 1],
            ..Counts::default()
        };
        assert_eq!(
            with("forward_f16_f16_any", bad.clone())
                .complaints("sm_75")
                .len(),
            3
        );
        assert_eq!(
            with("forward_f16_f16_rows_8x1", bad)
                .complaints("sm_75")
                .len(),
            4
        );
    }
}
