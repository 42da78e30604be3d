//! What the loader says to wrong PTX. That no bytes at all make it panic, hang or grow, `fuzz` tests.

use std::time::Instant;

use software_gpu::{Gpu, LoadError, LoadErrorClass, Model, Module, OPCODES};

const KERNEL: &str = "\
.version 7.4
.target sm_80
.address_size 64
.visible .entry k(.param .u64 p)
{
\t.reg .pred %p<2>;
\t.reg .b32 %r<4>;
\t.reg .b64 %rd<4>;
\tld.param.u64 %rd1, [p];
\tmov.u32 %r1, %tid.x;
\tadd.s32 %r2, %r1, 1;
\tst.global.u32 [%rd1], %r2;
\tret;
}
";

fn load(text: &str) -> Result<Module, LoadError> {
    Module::load(text.as_bytes(), &Gpu::new(Model::a100()))
}

/// The first problem of the kernel with `from` replaced by `to`: its line and words.
fn problem(from: &str, to: &str) -> (u32, String) {
    assert!(KERNEL.contains(from));
    let error = load(&KERNEL.replacen(from, to, 1))
        .err()
        .expect("the text is wrong and loads");
    assert_eq!(
        (error.class, error.cuda_error()),
        (LoadErrorClass::InvalidPtx, 218),
        "{error}"
    );
    let first = error.problems.first().expect("an error says why");
    assert!(
        error
            .to_string()
            .starts_with(&format!("line {}: ", first.line))
    );
    (first.line, first.reason.clone())
}

#[test]
fn the_kernel_itself_loads_with_or_without_a_zero_behind_it() {
    let module = load(KERNEL).unwrap();
    let kernel = module.kernel("k").unwrap();
    assert_eq!(
        (
            kernel.param_bytes(),
            kernel.params().len(),
            kernel.max_threads()
        ),
        (8, 1, 1024)
    );
    assert!(load(&format!("{KERNEL}\0garbage")).is_ok());
}

#[test]
fn each_error_names_its_line_and_reason() {
    for (from, to, line, words) in [
        (
            "add.s32",
            "frobnicate.s32",
            11,
            "instruction `frobnicate.s32` is not supported",
        ),
        (
            "add.s32",
            "add.quickly.s32",
            11,
            "`.quickly` of `add.quickly.s32` is not supported",
        ),
        ("add.s32", "add.s33", 11, "does not end in a type"),
        (
            "add.s32 %r2, %r1, 1",
            "add.s32 %r2, %r1",
            11,
            "has 3 operands, got 2",
        ),
        (
            "add.s32 %r2",
            "add.s32 %rd2",
            11,
            "the register is W64, the type S32",
        ),
        (
            "%r2, %r1, 1",
            "%r9, %r1, 1",
            11,
            "`%r9` is neither declared nor a special register",
        ),
        (
            "%r2, %r1, 1",
            "%r2, %r1, 1.5",
            11,
            "a floating-point number where a S32 is needed",
        ),
        (
            "ret;",
            "bra NOWHERE;",
            13,
            "`NOWHERE` is neither declared nor a label",
        ),
        ("ret;", "ret", 14, "expected an operand, got `}`"),
        ("[p]", "[q]", 9, "`q` is not declared"),
        (
            "[p]",
            "[p+8]",
            9,
            "8 bytes at 8 of parameter `p` of 8 bytes",
        ),
        (
            "st.global.u32 [%rd1]",
            "st.global.u32 [%r1]",
            12,
            "an address of 32 bits",
        ),
        ("st.global", "st.const", 12, "that space cannot be written"),
        ("\tret;", "\tcall f;", 13, "calls are not supported"),
        (
            ".reg .pred %p<2>;",
            ".reg .b128 %q;",
            6,
            "registers of type `.b128` are not supported",
        ),
        (".address_size 64", ".address_size 32", 2, "must be 64"),
        (
            ".visible .entry",
            ".visible .func",
            4,
            "functions are not supported",
        ),
        (".version", "version", 1, "expected `.version`"),
        ("}", "", 13, "does not end"),
        (
            "%tid.x",
            "%tid.w",
            10,
            "`%tid.w` is neither declared nor a special register",
        ),
    ] {
        let (got, reason) = problem(from, to);
        assert!(
            got == line && reason.contains(words),
            "line {got}: {reason}\nnot line {line}: {words}"
        );
    }
}

#[test]
fn every_wrong_instruction_is_named_at_once() {
    let text = KERNEL
        .replace("add.s32", "sdd.s32")
        .replace("st.global", "sd.global");
    let lines: Vec<u32> = load(&text)
        .err()
        .unwrap()
        .problems
        .iter()
        .map(|problem| problem.line)
        .collect();
    assert_eq!(lines, [11, 12]);
}

#[test]
fn newer_versions_and_other_targets_are_the_drivers_errors() {
    for (from, to, class, code) in [
        (
            ".version 7.4",
            ".version 9.9",
            LoadErrorClass::UnsupportedVersion,
            222,
        ),
        (
            ".target sm_80",
            ".target sm_90",
            LoadErrorClass::NoKernelImage,
            209,
        ),
        (
            ".target sm_80",
            ".target sm_75a",
            LoadErrorClass::NoKernelImage,
            209,
        ),
    ] {
        let error = load(&KERNEL.replace(from, to)).err().unwrap();
        assert_eq!((error.class, error.cuda_error()), (class, code), "{error}");
    }
    assert!(
        load(&KERNEL.replace("sm_80", "sm_75")).is_ok(),
        "an older target runs"
    );
    // What a newer version has that this one has not is no syntax error.
    let novel = KERNEL.replace(".version 7.4", ".version 7.4\n.novelty 3");
    assert_eq!(
        load(&novel).err().unwrap().class,
        LoadErrorClass::InvalidPtx
    );
    let newer = novel.replace("7.4", "9.9");
    let error = load(&newer).err().unwrap();
    assert_eq!(error.class, LoadErrorClass::UnsupportedVersion, "{error}");
    let line = newer.lines().nth(error.problems[0].line as usize - 1);
    assert_eq!(line, Some(".version 9.9"));
}

#[test]
fn bytes_that_are_no_text() {
    let error = Module::load(b"\x7fELF\x02\x01\x01\xff\xfe", &Gpu::new(Model::h100()))
        .err()
        .unwrap();
    assert_eq!(error.cuda_error(), 218);
    assert!(error.to_string().contains("is this a cubin"), "{error}");
    assert!(load("").is_err());
}

#[test]
fn sizes_that_no_device_has() {
    for (from, to) in [
        ("%r<4>", "%r<4294967295>"),
        (".reg .pred", ".shared .b8 big[4294967295]; .reg .pred"),
        (
            ".reg .pred",
            ".local .b64 big[4294967295][4294967295]; .reg .pred",
        ),
        (".visible", ".global .b8 big[1099511627776]; .visible"),
        (
            ".visible",
            ".global .align 8 .b8 big[500000][500000][500000]; .visible",
        ),
        (".param .u64 p", ".param .b8 p[4294967295]"),
        (
            ".param .u64 p",
            ".param .u64 p, .param .align 65536 .b8 a[1]",
        ),
    ] {
        let start = Instant::now();
        let loaded = load(&KERNEL.replacen(from, to, 1));
        // A range of names costs nothing; the others are too large.
        assert_eq!(loaded.is_ok(), from == "%r<4>", "{to}");
        assert!(start.elapsed().as_secs() < 5, "{to}");
    }
}

/// Each opcode of the list has a decoder: without operands it fails for another reason than not being known.
#[test]
fn every_opcode_of_the_list_is_decoded() {
    for opcode in OPCODES {
        let text = KERNEL.replace("add.s32 %r2, %r1, 1", opcode);
        if let Err(error) = load(&text) {
            let unknown = format!("instruction `{opcode}` is not supported");
            assert!(!error.to_string().contains(&unknown), "{error}");
        }
    }
    assert!(!OPCODES.contains(&"call") && !OPCODES.contains(&"discard"));
}

/// As many registers as the device can name, and one more: a loader that counted them in 16 bits once lost count.
#[test]
fn registers_without_end() {
    let text = |count: usize| {
        let moves: String = (0..count).map(|i| format!("mov.u32 %r{i}, 1;\n")).collect();
        format!(
            ".version 7.4\n.target sm_80\n.address_size 64\n.visible .entry k()\n{{\n.reg .b32 %r<{count}>;\n{moves}ret;\n}}"
        )
    };
    // The constant has one of them.
    assert!(load(&text(65534)).is_ok());
    for count in [65535, 65536, 70000] {
        let error = load(&text(count)).err().unwrap();
        assert!(error.to_string().contains("65535 registers"), "{error}");
    }
}
