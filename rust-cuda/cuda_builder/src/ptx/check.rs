//! What kernels must not compile to. None of it is an error to the compiler, and all of it makes a
//! kernel slow, or loses its denormals, without a word.

use std::fmt;

use super::{Scope, code, entry_name, is_symbol_character};

/// One line of PTX that should not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Counted from 1.
    pub line: usize,
    /// The entry point it is in, if it is in one.
    pub entry: Option<String>,
    /// What is wrong with it.
    pub problem: Problem,
    /// The line itself.
    pub text: String,
}

/// What is wrong with a line of PTX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A register array or a spill in memory.
    LocalMemory,
    /// A function that was not inlined.
    Function,
    /// A call of such a function.
    Call,
    /// A Rust symbol that is not an entry point.
    MangledSymbol,
    /// An access that finds out at run time which memory it is of.
    GenericAccess,
    /// Arithmetic that takes denormals for zeros, and makes zeros of them.
    FlushToZero,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LocalMemory => {
                "local memory: an array is indexed in a loop that was not unrolled, or has its address taken"
            }
            Self::Function => "a function that was not inlined: mark it `#[inline(always)]`",
            Self::Call => "a call: mark the function `#[inline(always)]`",
            Self::MangledSymbol => "a Rust symbol that is not an entry point: a static, or a function that was not inlined",
            Self::GenericAccess => {
                "a generic access: name the memory (`ld.global`, `cuda_std::ext::Shared`)"
            }
            Self::FlushToZero => {
                "`.ftz` makes zeros of denormals: take the intrinsic without it, and no fast-math flag"
            }
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            entry,
            problem,
            text,
        } = self;
        let entry = entry.as_deref().unwrap_or("outside an entry point");
        write!(f, "line {line}, {entry}: {problem}: `{text}`")
    }
}

/// Looks for local memory, functions, calls, Rust symbols, generic accesses and lost denormals.
pub fn check_ptx(ptx: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut scope = Scope::default();
    let lines: Vec<&str> = ptx.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let entry = scope
            .enter(number, line)
            .and_then(|first| entry_name(lines[first]));
        findings.extend(problems(code(line)).into_iter().map(|problem| Finding {
            line: number + 1,
            entry: entry.map(str::to_owned),
            problem,
            text: line.trim().to_owned(),
        }));
    }
    findings
}

fn problems(code: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let opcode = opcode(code);
    let parts: Vec<&str> = opcode.split('.').collect();
    if parts.contains(&"local") {
        problems.push(Problem::LocalMemory);
    }
    if code.split_whitespace().any(|word| word == ".func") {
        problems.push(Problem::Function);
    }
    if parts[0] == "call" {
        problems.push(Problem::Call);
    }
    let mut symbols = code.split(|c| !is_symbol_character(c));
    if symbols.any(|symbol| symbol.starts_with("_R") || symbol.starts_with("_ZN")) {
        problems.push(Problem::MangledSymbol);
    }
    const SPACES: [&str; 5] = ["global", "shared", "param", "const", "local"];
    let names_memory = parts
        .iter()
        .any(|part| SPACES.contains(&part.split("::").next().unwrap_or(part)));
    if matches!(parts[0], "ld" | "ldu" | "st" | "atom" | "red") && !names_memory {
        problems.push(Problem::GenericAccess);
    }
    if code.contains(".ftz") {
        problems.push(Problem::FlushToZero);
    }
    problems
}

/// The instruction or directive: the line's first word that is no label and no predicate.
fn opcode(code: &str) -> &str {
    code.split([' ', '\t', '{', ';'])
        .find(|word| !word.is_empty() && !word.starts_with('@') && !word.ends_with(':'))
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_that_name_their_memory_pass() {
        for line in [
            "ld.global.nc.L1::no_allocate.v4.b32 {%r1, %r2, %r3, %r4}, [%rd1];",
            "st.global.cs.v4.b32 [%rd1], {%r1, %r2, %r3, %r4};",
            "st.shared.b32 [%r2], %r1;",
            "@%p1 ld.shared::cta.b32 %r1, [%r2];",
            "ld.param.b64 %rd3, [k_param_0];",
            "red.global.add.f32 [%rd1], %f1;",
            "redux.sync.add.s32 %r38, %r37, %r36;",
            "setp.lt.f32 %p1, %f1, %f2;",
            "cvta.to.global.u64 %rd4, %rd3;",
            "$L__BB0_2: ret;",
            ".reg .b32 %r<5>;",
            "// call local _RNv .func",
            "bra.uni $L__BB2_1;",
            ".shared .align 16 .b8 __shared_1_0_128[128];",
            "",
        ] {
            assert_eq!(problems(code(line)), [], "{line}");
        }
    }

    #[test]
    fn each_problem_is_found() {
        use Problem::*;
        for (line, problem) in [
            ("\t.local .align 16 .b8 \t__local_depot0[64];", LocalMemory),
            ("st.local.v4.b32 [%rd1], {%r1, %r2, %r3, %r4};", LocalMemory),
            ("cvta.local.u64 %SP, %SPL;", LocalMemory),
            (".func  (.param .b32 func_retval0) helper(", Function),
            ("@%p1 call.uni (retval0), helper, (param0);", Call),
            ("{ call helper; }", Call),
            ("mov.u64 %rd1, _RNvCs1_4core3FOO;", MangledSymbol),
            (".global .align 4 .b8 _ZN4core3FOO17h[4];", MangledSymbol),
            ("@!%p2 ld.b32 %r1, [%rd1];", GenericAccess),
            ("st.v2.b32 [%rd1], {%r1, %r2};", GenericAccess),
            ("ld.volatile.b32 %r1, [%rd1];", GenericAccess),
            ("$L1: st.b32 [%rd1], %r1;", GenericAccess),
            ("atom.add.f32 %f1, [%rd1], %f2;", GenericAccess),
            ("{ rsqrt.approx.ftz.f32 %f2, %f1; }", FlushToZero),
            ("@%p1 fma.rn.ftz.f32 %f4, %f1, %f2, %f3;", FlushToZero),
        ] {
            assert_eq!(problems(code(line)), [problem], "{line}");
        }
    }

    #[test]
    fn a_finding_says_where() {
        let ptx =
            ".visible .entry k(\n)\n{\n\tld.b32 %r1, [%rd1];\n\tret;\n}\nst.b32 [%rd1], %r1;\n";
        let found = check_ptx(ptx);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, found[0].entry.as_deref()), (4, Some("k")));
        assert_eq!((found[1].line, found[1].entry.as_deref()), (7, None));
        assert!(
            found[0]
                .to_string()
                .starts_with("line 4, k: a generic access"),
            "{}",
            found[0]
        );
    }
}
