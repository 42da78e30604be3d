//! `cuda_std`'s markers become PTX. rustc has no word for launch bounds or shared memory, so
//! `cuda_std` leaves comments in the assembly:
//!
//! | marker, inside an entry point | what it becomes |
//! |---|---|
//! | `//cuda_std launch_bounds MAX MIN` | `.maxntid MAX, 1, 1` and, unless MIN is 0, `.minnctapersm MIN` before the `{` |
//! | `//cuda_std cluster BLOCKS` | `.explicitcluster` and `.reqnctapercluster BLOCKS, 1, 1` there |
//! | `//cuda_std shared NAME BYTES ALIGN` | `.shared .align ALIGN .b8 NAME[BYTES];` before the first entry point |
//! | `//cuda_std dynamic_shared NAME` | `.extern .shared .align 128 .b8 NAME[];` there |
//!
//! LLVM's comments around assembly blocks go, too.

use std::collections::{BTreeMap, BTreeSet};

use super::{Scope, entry_name};

const MARKER: &str = "//cuda_std ";

/// LLVM's comments around each assembly block: an eighth of a file that has many.
const FRAME: [&str; 2] = ["// begin inline asm", "// end inline asm"];

/// A marker that `cuda_std` would not have left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PTX line {line}: {message}: `{text}`")]
pub struct MarkerError {
    /// Counted from 1, in the compiler's output.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// The line itself.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LaunchBounds {
    max_threads: u32,
    min_blocks: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shared {
    Static { bytes: u64, align: u64 },
    Dynamic,
}

/// What the markers of a file say.
#[derive(Default)]
struct Markers {
    /// By the number of the line that begins the entry point.
    bounds: BTreeMap<usize, LaunchBounds>,
    /// Blocks of a cluster, likewise.
    clusters: BTreeMap<usize, u32>,
    /// By name, so that the order is the same in every build.
    shared: BTreeMap<String, Shared>,
    /// Numbers of the lines that go.
    lines: BTreeSet<usize>,
}

/// The compiler's PTX with `cuda_std`'s markers replaced by what they mean.
pub fn finish_ptx(ptx: &str) -> Result<String, MarkerError> {
    let lines: Vec<&str> = ptx.lines().collect();
    let markers = Markers::read(&lines)?;
    let mut out = String::with_capacity(ptx.len());
    let mut declared = false;
    let (mut bounds, mut cluster) = (None, None);
    for (number, line) in lines.iter().enumerate() {
        if markers.lines.contains(&number) {
            continue;
        }
        if !declared && (line.contains("// .globl") || entry_name(line).is_some()) {
            declared = true;
            out.push_str(&markers.declarations());
        }
        if entry_name(line).is_some() {
            bounds = markers.bounds.get(&number);
            cluster = markers.clusters.get(&number);
        }
        if line.trim() == "{"
            && let Some(LaunchBounds {
                max_threads,
                min_blocks,
            }) = bounds.take()
        {
            out.push_str(&format!(".maxntid {max_threads}, 1, 1\n"));
            if *min_blocks > 0 {
                out.push_str(&format!(".minnctapersm {min_blocks}\n"));
            }
        }
        if line.trim() == "{"
            && let Some(blocks) = cluster.take()
        {
            out.push_str(&format!(
                ".explicitcluster\n.reqnctapercluster {blocks}, 1, 1\n"
            ));
        }
        out.push_str(line);
        out.push('\n');
    }
    Ok(out)
}

impl Markers {
    fn read(lines: &[&str]) -> Result<Self, MarkerError> {
        let mut markers = Self::default();
        let mut scope = Scope::default();
        for (number, line) in lines.iter().enumerate() {
            let entry = scope.enter(number, line);
            if FRAME.contains(&line.trim()) {
                markers.lines.insert(number);
            }
            let Some(marker) = line.trim().strip_prefix(MARKER) else {
                continue;
            };
            let error = |message: String| MarkerError {
                line: number + 1,
                message,
                text: line.trim().to_owned(),
            };
            markers.add(marker, entry).map_err(error)?;
            markers.lines.insert(number);
        }
        Ok(markers)
    }

    fn add(&mut self, marker: &str, entry: Option<usize>) -> Result<(), String> {
        let words: Vec<&str> = marker.split_whitespace().collect();
        let number = |word: &str| {
            word.parse::<u64>()
                .map_err(|_| format!("`{word}` is not a number"))
        };
        match words[..] {
            ["launch_bounds", max_threads, min_blocks] => {
                let new = LaunchBounds {
                    max_threads: number(max_threads)? as u32,
                    min_blocks: number(min_blocks)? as u32,
                };
                let entry = entry.ok_or("launch bounds outside an entry point")?;
                match self.bounds.insert(entry, new) {
                    Some(old) if old != new => Err(format!(
                        "a second launch_bounds, {new:?}, in a kernel that has {old:?}"
                    )),
                    _ => Ok(()),
                }
            }
            ["cluster", blocks] => {
                let new = number(blocks)? as u32;
                let entry = entry.ok_or("a cluster's size outside an entry point")?;
                match self.clusters.insert(entry, new) {
                    Some(old) if old != new => Err(format!(
                        "a second cluster, of {new} blocks, in a kernel that has {old}"
                    )),
                    _ => Ok(()),
                }
            }
            ["shared", name, bytes, align] => {
                let (bytes, align) = (number(bytes)?, number(align)?);
                self.declare(name, Shared::Static { bytes, align })
            }
            ["dynamic_shared", name] => self.declare(name, Shared::Dynamic),
            _ => Err("unknown marker: cuda_std and cuda_builder are of different versions".into()),
        }
    }

    fn declare(&mut self, name: &str, new: Shared) -> Result<(), String> {
        match self.shared.insert(name.to_owned(), new.clone()) {
            Some(old) if old != new => Err(format!("{new:?} under the name of {old:?}")),
            _ => Ok(()),
        }
    }

    fn declarations(&self) -> String {
        self.shared
            .iter()
            .map(|(name, shared)| match shared {
                Shared::Static { bytes, align } => {
                    format!(".shared .align {align} .b8 {name}[{bytes}];\n")
                }
                Shared::Dynamic => format!(".extern .shared .align 128 .b8 {name}[];\n"),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As LLVM prints it, with `body` as the entry point's.
    fn module(body: &str) -> String {
        format!(
            ".version 7.4\n.target sm_80\n.address_size 64\n\n\t// .globl\tk\n\n\
             .visible .entry k(\n\t.param .u32 k_param_0\n)\n{{\n{body}\tret;\n\n}}\n"
        )
    }

    fn asm(text: &str) -> String {
        format!("\t// begin inline asm\n\t{text}\n\t// end inline asm\n")
    }

    #[test]
    fn ptx_without_markers_stays_as_it_is() {
        let ptx = module("");
        assert_eq!(finish_ptx(&ptx).unwrap(), ptx);
    }

    #[test]
    fn assembly_blocks_lose_their_frames_and_nothing_else() {
        let ptx = module(&asm("nop;"));
        assert_eq!(finish_ptx(&ptx).unwrap(), module("\tnop;\n"));
    }

    #[test]
    fn launch_bounds_stand_between_the_parameters_and_the_body() {
        let finished = finish_ptx(&module(&asm("//cuda_std launch_bounds 256 2"))).unwrap();
        assert_eq!(
            finished,
            module("").replace(")\n{\n", ")\n.maxntid 256, 1, 1\n.minnctapersm 2\n{\n")
        );
    }

    #[test]
    fn a_cluster_stands_there_too() {
        let both = asm("//cuda_std launch_bounds 256 0") + &asm("//cuda_std cluster 4");
        let finished = finish_ptx(&module(&both)).unwrap();
        let expected = ")\n.maxntid 256, 1, 1\n.explicitcluster\n.reqnctapercluster 4, 1, 1\n{\n";
        assert_eq!(finished, module("").replace(")\n{\n", expected));
        let two = asm("//cuda_std cluster 4") + &asm("//cuda_std cluster 2");
        let error = finish_ptx(&module(&two)).unwrap_err();
        assert!(error.message.contains("a second cluster"), "{error}");
    }

    #[test]
    fn zero_blocks_means_none_were_asked_for() {
        let finished = finish_ptx(&module(&asm("//cuda_std launch_bounds 128 0"))).unwrap();
        assert_eq!(
            finished,
            module("").replace(")\n{\n", ")\n.maxntid 128, 1, 1\n{\n")
        );
    }

    #[test]
    fn each_entry_has_its_own_bounds() {
        let one = module(&asm("//cuda_std launch_bounds 64 0"));
        let two = module(&asm("//cuda_std launch_bounds 512 0"));
        let without = module("");
        let finished = finish_ptx(&format!("{one}{without}{two}")).unwrap();
        let bounds: Vec<&str> = finished
            .lines()
            .filter(|line| line.contains(".maxntid") || line.contains(".entry"))
            .collect();
        let entry = ".visible .entry k(";
        assert_eq!(
            bounds,
            [
                entry,
                ".maxntid 64, 1, 1",
                entry,
                entry,
                ".maxntid 512, 1, 1"
            ]
        );
    }

    #[test]
    fn a_block_inside_the_body_is_not_where_bounds_go() {
        let body = format!("{{\n\tnop;\n}}\n{}", asm("//cuda_std launch_bounds 64 0"));
        let finished = finish_ptx(&module(&body)).unwrap();
        assert_eq!(finished.matches(".maxntid").count(), 1);
        assert!(
            finished.contains(")\n.maxntid 64, 1, 1\n{\n{\n"),
            "{finished}"
        );
    }

    #[test]
    fn bounds_outside_an_entry_point_are_refused() {
        let ptx = module("") + &asm("//cuda_std launch_bounds 64 0");
        let error = finish_ptx(&ptx).unwrap_err();
        assert!(error.message.contains("outside an entry point"), "{error}");
    }

    #[test]
    fn a_copied_marker_is_one_marker() {
        let twice = asm("//cuda_std launch_bounds 64 0").repeat(2);
        let finished = finish_ptx(&module(&twice)).unwrap();
        assert_eq!(finished.matches(".maxntid").count(), 1);
    }

    #[test]
    fn shared_variables_are_declared_once_and_used_where_they_were() {
        let one = asm("//cuda_std shared __shared_1_0_128 128 16\nmov.u32 %r1, __shared_1_0_128;");
        let dynamic =
            asm("//cuda_std dynamic_shared __dynamic_shared\nmov.u32 %r2, __dynamic_shared;");
        let finished = finish_ptx(&module(&format!("{one}{dynamic}{one}"))).unwrap();
        let declarations = ".extern .shared .align 128 .b8 __dynamic_shared[];\n\
                            .shared .align 16 .b8 __shared_1_0_128[128];\n\t// .globl";
        assert!(finished.contains(declarations), "{finished}");
        assert_eq!(finished.matches("__shared_1_0_128[128]").count(), 1);
        assert_eq!(
            finished.matches("mov.u32 %r1, __shared_1_0_128;").count(),
            2
        );
        assert!(!finished.contains("cuda_std"));
    }

    #[test]
    fn contradictions_are_refused_with_their_line() {
        let bounds = asm("//cuda_std launch_bounds 64 0") + &asm("//cuda_std launch_bounds 128 0");
        let error = finish_ptx(&module(&bounds)).unwrap_err();
        assert_eq!(error.line, 15);
        assert!(error.message.contains("second launch_bounds"), "{error}");

        let shared = asm("//cuda_std shared a 4 16") + &asm("//cuda_std shared a 8 16");
        let error = finish_ptx(&module(&shared)).unwrap_err();
        assert!(error.message.contains("under the name"), "{error}");
    }

    #[test]
    fn markers_that_cannot_be_read_are_refused() {
        for (marker, says) in [
            ("//cuda_std launch_bounds many 0", "`many` is not a number"),
            ("//cuda_std launch_bounds 64", "unknown marker"),
            ("//cuda_std cluster two", "`two` is not a number"),
            ("//cuda_std clusters 2", "unknown marker"),
        ] {
            let error = finish_ptx(&module(&asm(marker))).unwrap_err();
            assert!(error.message.contains(says), "{error}");
        }
    }
}
