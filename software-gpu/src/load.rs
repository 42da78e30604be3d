//! Loading a module: parse, hold it against the device, place the variables, decode the kernels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};

use crate::gpu::Gpu;
use crate::memory::Memory;
use crate::model::Model;
use crate::module::{Kernel, LoadError, LoadErrorClass, Module, Param, Problem};
use crate::program::{Placement, decode};
use crate::ptx::ast::{self, Base, Operand, Space, VarRef, Variable};
use crate::ptx::{self, SyntaxError};

/// Bytes of shared and of local memory that a kernel can declare; a launch is held against the device.
const MAX_DECLARED: u64 = 1 << 24;

pub(crate) fn load(bytes: &[u8], gpu: &Gpu) -> Result<Module, LoadError> {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let text = match std::str::from_utf8(&bytes[..end]) {
        Ok(text) => text,
        Err(error) => {
            let line = bytes[..error.valid_up_to()]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count() as u32
                + 1;
            let reason = "the text is not UTF-8: is this a cubin or another binary?".into();
            return Err(LoadError {
                class: LoadErrorClass::InvalidPtx,
                problems: vec![Problem { line, reason }],
            });
        }
    };
    let fail = |errors: Vec<SyntaxError>| invalid(text, errors);
    let parsed = ptx::parse(text);
    // What does not parse may be of a version that is newer: then that is what is wrong with it.
    let module = parsed.map_err(|error| match ptx::version(text) {
        Some((version, line)) => known_version(version, line, gpu.model())
            .err()
            .unwrap_or_else(|| fail(vec![error])),
        None => fail(vec![error]),
    })?;
    supported(&module, gpu.model())?;
    let mut loaded = Module {
        kernels: BTreeMap::new(),
        globals: BTreeMap::new(),
        memory: gpu.memory().clone(),
    };
    let addresses = place_globals(&module, &mut loaded.globals, gpu.memory()).map_err(
        |problem| match problem {
            Unplaced::Memory(line, reason) => LoadError {
                class: LoadErrorClass::OutOfMemory,
                problems: vec![Problem { line, reason }],
            },
            Unplaced::Text(error) => fail(vec![error]),
        },
    )?;
    let shared_text: Arc<str> = text.into();
    let mut errors = Vec::new();
    for entry in &module.entries {
        match kernel(&module, entry, &addresses, gpu.model(), &shared_text) {
            Ok(kernel) => {
                loaded
                    .kernels
                    .insert(entry.name.to_string(), Arc::new(kernel));
            }
            Err(mut more) => errors.append(&mut more),
        }
    }
    if errors.is_empty() {
        Ok(loaded)
    } else {
        Err(fail(errors))
    }
}

/// Errors in the text, each with its line's text.
fn invalid(text: &str, errors: Vec<SyntaxError>) -> LoadError {
    // Enough to see what is wrong; a text of another language would give one a line.
    const MOST: usize = 100;
    let mut problems: Vec<Problem> = errors
        .into_iter()
        .take(MOST)
        .map(|SyntaxError { line, reason }| {
            let source = text
                .lines()
                .nth((line as usize).saturating_sub(1))
                .unwrap_or("")
                .trim();
            let source: String = source.chars().take(200).collect();
            Problem {
                line,
                reason: format!("{reason}: `{source}`"),
            }
        })
        .collect();
    problems.sort_by_key(|problem| problem.line);
    LoadError {
        class: LoadErrorClass::InvalidPtx,
        problems,
    }
}

/// An error unless the device's driver knows that version of PTX.
fn known_version(version: (u32, u32), line: u32, model: &Model) -> Result<(), LoadError> {
    if version <= model.ptx_version_max {
        return Ok(());
    }
    let ((major, minor), (most_major, most_minor)) = (version, model.ptx_version_max);
    let reason = format!(
        "PTX version {major}.{minor}; {} knows up to {most_major}.{most_minor}",
        model.name
    );
    Err(LoadError {
        class: LoadErrorClass::UnsupportedVersion,
        problems: vec![Problem { line, reason }],
    })
}

/// An error unless the device runs the module's version and target.
fn supported(module: &ast::Module<'_>, model: &Model) -> Result<(), LoadError> {
    known_version(module.version, module.version_line, model)?;
    let (cc_major, cc_minor) = model.compute_capability;
    let (have, want) = (cc_major * 10 + cc_minor, module.target);
    let runs = match module.target_suffix {
        Some('a') => have == want,
        Some(_) => have >= want && have / 10 == want / 10,
        None => have >= want,
    };
    if !runs {
        let suffix = module.target_suffix.map_or(String::new(), String::from);
        let reason = format!("target sm_{want}{suffix}; {} is sm_{have}", model.name);
        let problems = vec![Problem {
            line: module.target_line,
            reason,
        }];
        return Err(LoadError {
            class: LoadErrorClass::NoKernelImage,
            problems,
        });
    }
    Ok(())
}

/// Why a variable has no place.
enum Unplaced {
    Memory(u32, String),
    Text(SyntaxError),
}

/// Puts the variables of global and constant memory in memory. Their addresses, by number.
fn place_globals(
    module: &ast::Module<'_>,
    globals: &mut BTreeMap<String, (u64, u64)>,
    memory: &Memory,
) -> Result<Vec<Option<u64>>, Unplaced> {
    let mut addresses = Vec::new();
    for variable in &module.variables {
        if !matches!(variable.space, Space::Global | Space::Const) {
            addresses.push(None);
            continue;
        }
        let none =
            |error: crate::memory::MemoryError| Unplaced::Memory(variable.line, error.to_string());
        let address = memory
            .place(variable.size, variable.space == Space::Const)
            .map_err(none)?;
        globals.insert(variable.name.to_string(), (address, variable.size));
        // What has no initialiser is zero.
        memory.fill(address, &[0], variable.size).map_err(none)?;
        memory.write(address, &variable.init).map_err(none)?;
        addresses.push(Some(address));
    }
    for (variable, address) in module.variables.iter().zip(&addresses) {
        for relocation in &variable.relocations {
            let target = addresses[relocation.variable];
            let (Some(address), Some(target)) = (address, target) else {
                let reason =
                    "an initialiser names a variable that has no address before the launch".into();
                return Err(Unplaced::Text(SyntaxError {
                    line: relocation.line,
                    reason,
                }));
            };
            let value = target.wrapping_add_signed(relocation.addend);
            let none = |error: crate::memory::MemoryError| {
                Unplaced::Memory(variable.line, error.to_string())
            };
            memory
                .write(address + relocation.at, &value.to_le_bytes())
                .map_err(none)?;
        }
    }
    Ok(addresses)
}

/// Variables one behind the other.
struct Layout {
    end: u64,
    align: u32,
    /// Bytes that there may be.
    most: u64,
}

impl Layout {
    fn up_to(most: u64) -> Layout {
        let (end, align) = (0, 0);
        Layout { end, align, most }
    }

    fn add(&mut self, variable: &Variable<'_>) -> Result<u64, SyntaxError> {
        let at = self.end.next_multiple_of(variable.align.into());
        self.end = at + variable.size;
        self.align = self.align.max(variable.align);
        if self.end > self.most {
            let reason = format!(
                "`{}` ends at byte {} of what the kernel declares there, allowed are {}",
                variable.name, self.end, self.most
            );
            return Err(SyntaxError {
                line: variable.line,
                reason,
            });
        }
        Ok(at)
    }
}

fn kernel(
    module: &ast::Module<'_>,
    entry: &ast::Entry<'_>,
    globals: &[Option<u64>],
    model: &Model,
    text: &Arc<str>,
) -> Result<Kernel, Vec<SyntaxError>> {
    if module.target < 90 || module.version < (7, 8) {
        without_clusters(entry)?;
    }
    not_before(module, entry)?;
    let used = used_variables(entry);
    // What a block may have beyond this is dynamic: ptxas refuses a kernel that declares more.
    let mut shared = Layout::up_to(model.max_shared_per_block.into());
    let mut local = Layout::up_to(MAX_DECLARED);
    let mut places = Placement {
        module: vec![0; module.variables.len()],
        entry: Vec::new(),
    };
    for (id, variable) in module.variables.iter().enumerate() {
        if let Some(address) = globals[id] {
            places.module[id] = address;
        } else if !variable.is_extern && used.contains(&id) {
            places.module[id] = shared.add(variable).map_err(|error| vec![error])?;
        }
    }
    for variable in &entry.variables {
        let layout = if variable.space == Space::Local {
            &mut local
        } else {
            &mut shared
        };
        places
            .entry
            .push(layout.add(variable).map_err(|error| vec![error])?);
    }
    // All dynamic arrays start behind the static ones, at the strictest alignment.
    let dynamic: Vec<_> = (0..module.variables.len())
        .filter(|id| module.variables[*id].is_extern && used.contains(id))
        .collect();
    let align = dynamic
        .iter()
        .map(|id| module.variables[*id].align)
        .max()
        .unwrap_or(1)
        .max(16);
    let dynamic_start = if dynamic.is_empty() {
        shared.end
    } else {
        shared.end.next_multiple_of(align.into())
    };
    for id in dynamic {
        places.module[id] = dynamic_start;
    }
    let program = decode(entry, &places)?;
    let limit = entry
        .max_ntid
        .or(entry.req_ntid)
        .map_or(u32::MAX, |n| n.iter().fold(1, |a, b| a.saturating_mul(*b)));
    // A kernel that says how large its blocks are gets no more registers than such a block may have: what
    // ptxas has over, it spills.
    let bounded = match limit {
        u32::MAX => 255,
        threads => model.registers_per_block / threads.next_multiple_of(32).max(32) / 8 * 8,
    };
    Ok(Kernel {
        name: entry.name.to_string(),
        params: entry
            .params
            .iter()
            .map(|param| Param {
                offset: param.offset,
                size: param.size,
                align: param.align,
            })
            .collect(),
        static_shared_bytes: shared.end as u32,
        local_bytes: local.end.next_multiple_of(local.align.max(8).into()) as u32,
        max_threads: limit.min(model.max_threads_per_block),
        // Some are needed for addresses and the like; a thread has at least 16 and at most 255.
        registers: program
            .registers
            .saturating_add(4)
            .min(bounded)
            .clamp(16, 255),
        required_block: entry.req_ntid,
        required_cluster: entry.req_cluster,
        explicit_cluster: entry.explicit_cluster,
        max_cluster: entry.max_cluster,
        non_portable_cluster: AtomicBool::new(false),
        dynamic_start: dynamic_start as u32,
        dynamic_allowed: AtomicU32::new(0),
        program,
        text: text.clone(),
    })
}

/// Errors where the entry has to do with clusters, for modules that cannot.
fn without_clusters(entry: &ast::Entry<'_>) -> Result<(), Vec<SyntaxError>> {
    let error = |line, what: &str| SyntaxError {
        line,
        reason: format!("{what} needs PTX 7.8 and target sm_90 or later"),
    };
    let mut errors = Vec::new();
    if entry.req_cluster.is_some() || entry.explicit_cluster || entry.max_cluster.is_some() {
        errors.push(error(entry.line, "a cluster's size"));
    }
    for instruction in &entry.code {
        let opcode = instruction.opcode;
        let of_cluster = opcode.starts_with("barrier.cluster")
            || opcode.starts_with("mapa")
            || opcode.starts_with("getctarank")
            || (opcode.contains("shared::cluster")
                && !opcode.starts_with("mbarrier")
                && !opcode.starts_with("st.async"));
        let reads = |operand: &Operand| matches!(operand, Operand::Special(special) if special.is_of_cluster());
        if of_cluster {
            errors.push(error(instruction.line, &format!("`{opcode}`")));
        } else if instruction.operands.iter().any(reads) {
            errors.push(error(instruction.line, "a register of the cluster"));
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

/// Errors where the entry has barriers in shared memory, or waits for another launch, in ways that are newer than the
/// module's version or target.
fn not_before(module: &ast::Module<'_>, entry: &ast::Entry<'_>) -> Result<(), Vec<SyntaxError>> {
    let needs = |instruction: &ast::Instruction<'_>| {
        let opcode = instruction.opcode;
        if opcode.starts_with("st.async") {
            return Some(((8, 1), 90));
        }
        if opcode.starts_with("griddepcontrol") {
            return Some(((7, 8), 90));
        }
        if opcode.starts_with("fence.mbarrier_init") {
            return Some(((8, 0), 90));
        }
        let what = opcode.strip_prefix("mbarrier.")?;
        let has = |part: &str| what.split('.').any(|other| other == part);
        Some(if has("relaxed") && !what.starts_with("expect_tx") {
            ((8, 6), 90)
        } else if has("expect_tx") || has("shared::cluster") {
            ((8, 0), 90)
        } else if has("release") || has("acquire") {
            ((8, 0), 80)
        } else if has("try_wait") || (has("arrive") && instruction.operands.len() > 2) {
            ((7, 8), 90)
        } else if has("shared::cta") {
            ((7, 8), 80)
        } else if has("parity") {
            ((7, 1), 80)
        } else {
            ((7, 0), 80)
        })
    };
    let mut errors = Vec::new();
    for instruction in &entry.code {
        if let Some((version, target)) = needs(instruction)
            && (module.version < version || module.target < target)
        {
            let (major, minor) = version;
            errors.push(SyntaxError {
                line: instruction.line,
                reason: format!(
                    "`{}` needs PTX {major}.{minor} and target sm_{target} or later",
                    instruction.opcode
                ),
            });
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

/// The module's variables that the entry names.
fn used_variables(entry: &ast::Entry<'_>) -> BTreeSet<usize> {
    fn visit(operand: &Operand, out: &mut BTreeSet<usize>) {
        match operand {
            Operand::Variable(VarRef::Module(id), _) => {
                out.insert(*id);
            }
            Operand::Address(address) => {
                if let Base::Variable(VarRef::Module(id)) = address.base {
                    out.insert(id);
                }
            }
            Operand::Vector(parts) => parts.iter().for_each(|part| visit(part, out)),
            _ => {}
        }
    }
    let mut out = BTreeSet::new();
    entry
        .code
        .iter()
        .flat_map(|instruction| &instruction.operands)
        .for_each(|operand| visit(operand, &mut out));
    out
}
