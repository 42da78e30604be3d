//! Builds for the device, with the compiler of this machine. Where there is none, the tests see to it
//! that the error says how to get one.

use std::fs;
use std::path::{Path, PathBuf};

use cuda_builder::ptx::{Problem, entry_names};
use cuda_builder::{CudaBuilder, CudaBuilderError, NvvmArch, PtxVersion, Toolchain, check_ptx};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernels")
}

/// A build whose files are kept with the tests', if this machine can build at all.
fn builder(path: &Path) -> Option<CudaBuilder> {
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("rust-src"), "{error}");
            assert!(error.contains("To mend it:"), "{error}");
            return None;
        }
    };
    let builder = CudaBuilder::new(path)
        .arch(NvvmArch::Compute80)
        .ptx_version(PtxVersion::new(7, 4))
        .toolchain(toolchain)
        .target_dir(Path::new(env!("CARGO_TARGET_TMPDIR")).join("device"));
    Some(builder)
}

fn built(builder: CudaBuilder) -> String {
    let path = builder.build().unwrap_or_else(|error| panic!("{error}"));
    fs::read_to_string(path).unwrap()
}

/// The text of one entry point, from its name to the next entry point.
fn entry<'a>(ptx: &'a str, name: &str) -> &'a str {
    let start = ptx.find(&format!(".entry {name}(")).expect(name);
    let rest = &ptx[start..];
    rest[1..].find(".entry ").map_or(rest, |end| &rest[..end])
}

#[test]
fn kernels_become_entry_points() {
    let Some(builder) = builder(&fixture()) else {
        return;
    };
    let ptx = built(builder);

    assert!(ptx.contains("\n.version 7.4\n.target sm_80\n"), "{ptx}");
    assert_eq!(
        entry_names(&ptx),
        [
            "address_spaces",
            "block_sum",
            "everything",
            "named_a_64",
            "named_b_BLOCK",
            "slices"
        ]
    );
    assert_eq!(check_ptx(&ptx), []);
    assert!(!ptx.contains("cuda_std"), "a marker is left:\n{ptx}");

    let slices = entry(&ptx, "slices");
    assert_eq!(slices.matches("\t.param ").count(), 6, "{slices}");
    assert!(!slices.contains(".maxntid"), "{slices}");

    let block_sum = entry(&ptx, "block_sum");
    assert!(
        block_sum.contains(")\n.maxntid 256, 1, 1\n.minnctapersm 2\n{\n"),
        "{block_sum}"
    );
    assert_eq!(block_sum.matches("bar.sync").count(), 2, "{block_sum}");
    assert_eq!(
        block_sum.matches("shfl.sync.bfly").count(),
        5,
        "{block_sum}"
    );
    assert!(block_sum.contains("ld.shared.v4.b32"), "{block_sum}");

    assert!(entry(&ptx, "named_a_64").contains(")\n.maxntid 64, 1, 1\n{\n"));
    assert!(entry(&ptx, "named_b_BLOCK").contains(")\n.maxntid 128, 1, 1\n{\n"));

    let before_the_first = &ptx[..ptx.find(".entry").unwrap()];
    assert!(
        before_the_first.contains(".extern .shared .align 128 .b8 __dynamic_shared[];"),
        "{before_the_first}"
    );
    assert!(before_the_first.contains("[128];\n"), "{before_the_first}");
    let everything = entry(&ptx, "everything");
    for instruction in [
        "redux.sync.add.s32",
        "vote.sync.all.pred",
        "match.any.sync.b64",
        "bar.red.popc.u32",
        "rsqrt.approx.f32",
        "fma.rn.f64",
        "membar.sys",
    ] {
        assert!(
            everything.contains(instruction),
            "no {instruction}:\n{everything}"
        );
    }

    the_same_from_another_folder(&ptx);
}

/// The path of the crate is not in its PTX. Part of the test above, to use its build.
fn the_same_from_another_folder(ptx: &str) {
    let moved = Path::new(env!("CARGO_TARGET_TMPDIR")).join("somewhere/else entirely");
    let copied = moved.join("kernels.ptx");
    fs::create_dir_all(moved.join("src")).unwrap();
    let cuda_std = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cuda_std");
    let manifest = fs::read_to_string(fixture().join("Cargo.toml")).unwrap();
    let manifest = manifest.replace("../../../../cuda_std", cuda_std.to_str().unwrap());
    fs::write(moved.join("Cargo.toml"), manifest).unwrap();
    for file in ["src/lib.rs", "Cargo.lock"] {
        fs::copy(fixture().join(file), moved.join(file)).unwrap();
    }
    let there = builder(&moved).unwrap().copy_to(&copied);
    assert_eq!(there.build().unwrap(), copied);
    assert!(
        fs::read_to_string(&copied).unwrap() == ptx,
        "the PTX differs"
    );
}

#[test]
fn accesses_through_generic_pointers_are_found() {
    let Some(builder) = builder(&fixture()) else {
        return;
    };
    let ptx = built(builder.build_args(&["--features", "generic"]));
    let found = check_ptx(&ptx);
    assert!(!found.is_empty(), "{ptx}");
    for finding in found {
        assert_eq!(finding.entry.as_deref(), Some("generic"), "{finding}");
        assert_eq!(finding.problem, Problem::GenericAccess, "{finding}");
    }
}

#[test]
fn a_refused_crate_is_an_error_with_the_compilers_words() {
    let Some(builder) = builder(&fixture()) else {
        return;
    };
    let error = builder
        .build_args(&["--features", "broken"])
        .build()
        .unwrap_err();
    assert!(matches!(error, CudaBuilderError::BuildFailed { .. }));
    let error = error.to_string();
    for part in [
        "this fixture is broken on purpose",
        "src/lib.rs",
        "RUSTC_BOOTSTRAP",
        "cargo rustc",
    ] {
        assert!(error.contains(part), "{part:?} is not in:\n{error}");
    }
}

#[test]
fn a_crate_without_a_library_is_named() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("binary");
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(
        folder.join("Cargo.toml"),
        "[package]\nname = \"binary\"\nedition = \"2024\"\n[workspace]\n",
    )
    .unwrap();
    fs::write(folder.join("src/main.rs"), "fn main() {}\n").unwrap();
    let Some(builder) = builder(&folder) else {
        return;
    };
    let error = builder.build().unwrap_err().to_string();
    assert!(error.contains("has no library target"), "{error}");
}
