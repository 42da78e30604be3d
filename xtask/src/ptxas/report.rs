//! What `ptxas --verbose` says, as numbers, and as a table that can be read.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::Assembled;

/// One kernel on one device, in bytes a thread where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    pub name: String,
    /// Registers a thread.
    pub registers: u32,
    /// Arrays and spills in local memory.
    pub stack: u32,
    pub spill_stores: u32,
    pub spill_loads: u32,
    /// Static shared memory, in bytes a block.
    pub shared: u32,
    /// Local memory outside the stack frame.
    pub local: u32,
}

impl Kernel {
    fn uses_local_memory(&self) -> bool {
        self.stack + self.spill_stores + self.spill_loads + self.local > 0
    }
}

/// From lines such as these, for each kernel:
///
/// ```text
/// ptxas info    : Compiling entry function 'scale' for 'sm_80'
/// ptxas info    : Function properties for scale
///     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
/// ptxas info    : Used 10 registers, used 0 barriers, 128 bytes smem, 380 bytes cmem[0]
/// ```
pub fn parse(said: &str) -> Result<Vec<Kernel>> {
    let mut kernels: Vec<Kernel> = Vec::new();
    for line in said.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let (name, _) = rest
                .split_once('\'')
                .context("a kernel's name has no end")?;
            kernels.push(Kernel {
                name: name.to_owned(),
                ..Kernel::default()
            });
            continue;
        }
        let is_stack = line.contains("bytes stack frame");
        let is_use = line.contains(": Used ");
        let Some(kernel) = kernels.last_mut().filter(|_| is_stack || is_use) else {
            continue;
        };
        let items = line.rsplit(" : ").next().unwrap_or(line);
        for item in items.split(',') {
            let item = item
                .trim()
                .trim_start_matches("Used ")
                .trim_start_matches("used ");
            let (number, what) = item.split_once(' ').unwrap_or((item, ""));
            let field = match what.trim_start_matches("bytes ") {
                "stack frame" => &mut kernel.stack,
                "spill stores" => &mut kernel.spill_stores,
                "spill loads" => &mut kernel.spill_loads,
                "smem" => &mut kernel.shared,
                "lmem" => &mut kernel.local,
                "registers" => &mut kernel.registers,
                _ => continue,
            };
            *field = number
                .parse()
                .with_context(|| format!("`{number}` is not a number in: {line}"))?;
        }
    }
    if let Some(kernel) = kernels.iter().find(|kernel| kernel.registers == 0) {
        anyhow::bail!("ptxas says nothing of the registers of {}", kernel.name);
    }
    Ok(kernels)
}

/// One line a kernel: its shared memory, and its registers on each device.
pub fn table(assembled: &[Assembled]) -> String {
    let mut rows: BTreeMap<&str, (u32, Vec<String>)> = BTreeMap::new();
    for Assembled { kernels, .. } in assembled {
        for kernel in kernels {
            let (shared, cells) = rows.entry(&kernel.name).or_default();
            *shared = kernel.shared.max(*shared);
            cells.push(cell(kernel));
        }
    }
    let name_width = rows.keys().map(|name| name.len()).max().unwrap_or(0).max(6);
    let mut text = format!("{:name_width$}  shared", "kernel");
    for Assembled { device, .. } in assembled {
        text += &format!("  {device:>7}");
    }
    for (name, (shared, cells)) in rows {
        text += &format!("\n{name:name_width$}  {shared:>6}");
        for cell in cells {
            text += &format!("  {cell:>7}");
        }
    }
    text + "\n(registers a thread; shared memory in bytes a block)"
}

fn cell(kernel: &Kernel) -> String {
    let mark = if kernel.uses_local_memory() { "!" } else { "" };
    format!("{}{mark}", kernel.registers)
}

/// The kernels that use local memory, in words.
pub fn complaints(assembled: &[Assembled]) -> Vec<String> {
    assembled
        .iter()
        .flat_map(|Assembled { device, kernels }| {
            kernels.iter().map(move |kernel| (device, kernel))
        })
        .filter(|(_, kernel)| kernel.uses_local_memory())
        .map(|(device, kernel)| {
            let Kernel {
                name,
                registers,
                stack,
                spill_stores,
                spill_loads,
                local,
                ..
            } = kernel;
            format!(
                "{name} uses local memory on {device}: {registers} registers, {stack} bytes of stack, \
                 {spill_stores} spilled, {spill_loads} loaded back, {local} local"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'sums' for 'sm_80'
ptxas info    : Function properties for sums
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 22 registers, used 1 barriers, 384 bytes smem, 368 bytes cmem[0]
ptxas info    : Compile time = 13.328 ms
ptxas info    : Compiling entry function 'spills' for 'sm_80'
ptxas info    : Function properties for spills
    64 bytes stack frame, 48 bytes spill stores, 52 bytes spill loads
ptxas info    : Used 255 registers, 380 bytes cmem[0]
";

    #[test]
    fn numbers_are_read_per_kernel() {
        let kernels = parse(SAID).unwrap();
        assert_eq!(
            kernels,
            [
                Kernel {
                    name: "sums".into(),
                    registers: 22,
                    shared: 384,
                    ..Kernel::default()
                },
                Kernel {
                    name: "spills".into(),
                    registers: 255,
                    stack: 64,
                    spill_stores: 48,
                    spill_loads: 52,
                    ..Kernel::default()
                },
            ]
        );
    }

    #[test]
    fn older_releases_count_local_memory_on_its_own() {
        let said = "ptxas info : Compiling entry function 'k' for 'sm_75'\n\
                    ptxas info : Used 10 registers, 16 bytes lmem\n";
        assert_eq!(parse(said).unwrap()[0].local, 16);
    }

    #[test]
    fn a_kernel_without_numbers_is_an_error_and_not_a_pass() {
        let said = "ptxas info : Compiling entry function 'k' for 'sm_75'\n";
        let error = parse(said).unwrap_err().to_string();
        assert_eq!(error, "ptxas says nothing of the registers of k");
        let said = format!("{said}ptxas info : Used many registers\n");
        assert!(parse(&said).is_err());
    }

    #[test]
    fn spills_are_marked_and_told() {
        let assembled = [Assembled {
            device: "sm_80",
            kernels: parse(SAID).unwrap(),
        }];
        let table = table(&assembled);
        assert!(table.contains("sums       384       22"), "{table}");
        assert!(table.contains("spills       0     255!"), "{table}");
        assert_eq!(
            complaints(&assembled),
            [
                "spills uses local memory on sm_80: 255 registers, 64 bytes of stack, 48 spilled, 52 loaded back, 0 local"
            ]
        );
    }
}
