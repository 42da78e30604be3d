//! No bytes make the parser or the loader panic, hang or take memory without bound: random changes to
//! texts that load, and texts of random pieces, by the entry points that `fuzz/` has for libFuzzer.
//!
//! `SOFTWARE_GPU_FUZZ_SECONDS` is how long, for each of the two (3 if unset), `SOFTWARE_GPU_FUZZ_SEED` where
//! to start. What fails is printed with its text; it belongs into `fuzz/findings`.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use software_gpu::fuzzing;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Both tests look at what the whole process has allocated.
static ALONE: Mutex<()> = Mutex::new(());

/// Longest text that changes may lead to.
const MOST_BYTES: usize = 1 << 16;
/// What one text may take: nothing here comes near it, and a size that is believed goes far beyond.
const MOST_MEBIBYTES: f32 = 128.0;
const MOST_TIME: Duration = Duration::from_secs(5);

/// Pieces that mean something.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ",",
    ":",
    "|",
    "!",
    "@",
    "@!%p1 ",
    "+",
    "-",
    "_",
    "<",
    ">",
    "=",
    "\"",
    "//",
    "/*",
    "*/",
    "\n",
    "\0",
    ".",
    "0x",
    "0f",
    "0d7FF0000000000000",
    "0",
    "-1",
    "4294967295",
    "18446744073709551615",
    "99999999999999999999",
    "1e999",
    "0b2",
    ".reg .b32 %x<4294967295>;",
    ".reg .b32 %x<100000>;",
    ".b8 ",
    ".b128 ",
    "= 1;",
    "= {1, {2}, 0d0};",
    ".v4",
    ".v2",
    ".f32",
    ".bf16x2",
    ".pred",
    ".global ",
    ".shared ",
    ".local ",
    ".const ",
    ".param .u64 p",
    ".align 65536 ",
    "a[4294967295]",
    "[1][1][1]",
    ".extern ",
    ".visible ",
    ".entry e()",
    ".func f()",
    "bra ",
    "L:",
    "L: .branchtargets L, L;",
    "brx.idx %r1, L;",
    "call f;",
    "ret;",
    "exit;",
    "%tid.x",
    "%r1",
    "%rd1",
    "%p1",
    "mov.b64 ",
    "ld.global.v4.u32 {%r1,%r1,%r1,%r1}, [%rd1];",
    ".maxntid 0,0,0",
    ".reqntid 4294967295, 4294967295, 4294967295",
    ".reqnctapercluster 0",
    ".version 8.0\n",
    ".target sm_90, debug\n",
    ".address_size 64\n",
    ".file 1 \"",
    ".loc 1 1 1",
    ".pragma \"",
    "\u{e9}",
    "\u{feff}",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(name: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn corpus() -> Vec<Vec<u8>> {
    ["fuzz/corpus", "fuzz/findings", "tests/checks", "tests/ptx"]
        .into_iter()
        .flat_map(files)
        .collect()
}

fn number<T: std::str::FromStr>(variable: &str, default: T) -> T {
    let text = std::env::var(variable).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A text that nobody wrote.
fn invent(corpus: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut text = corpus.choose(random).unwrap().clone();
    for _ in 0..random.random_range(1..8) {
        if text.is_empty() {
            break;
        }
        let at = random.random_range(0..text.len());
        let end = |length: usize| (at + length).min(text.len());
        match random.random_range(0..9) {
            0 => text[at] = random.random(),
            1 => drop(text.drain(at..end(random.random_range(0..60)))),
            // A piece of itself, or of another text, elsewhere.
            2 => {
                let piece = text[at..end(random.random_range(0..300))].to_vec();
                let to = random.random_range(0..=text.len());
                text.splice(to..to, piece);
            }
            3 => {
                let other = corpus.choose(random).unwrap();
                let from = random.random_range(0..other.len());
                let until = (from + random.random_range(0..600)).min(other.len());
                text.splice(at..at, other[from..until].iter().copied());
            }
            4 => text.truncate(at),
            // The same over and over.
            5 => {
                let piece =
                    text[at..end(random.random_range(1..40))].repeat(random.random_range(2..200));
                text.splice(at..at, piece);
            }
            6 => {
                let token = TOKENS
                    .choose(random)
                    .unwrap()
                    .repeat(random.random_range(1..2000));
                text.splice(at..at, token.bytes().take(8000));
            }
            // A word gives way to another.
            7 => {
                let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"._%".contains(byte);
                let length = text[at..].iter().take_while(|byte| is_word(byte)).count();
                let token = TOKENS.choose(random).unwrap();
                text.splice(at..at + length, token.bytes());
            }
            _ => {
                let token = TOKENS.choose(random).unwrap();
                text.splice(at..at, token.bytes());
            }
        }
    }
    text.truncate(MOST_BYTES);
    text
}

/// Gives the text to the target. Why it is a finding, if it is one.
fn try_one(target: fn(&[u8]), text: &[u8]) -> Option<String> {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage_as_mb();
    let start = Instant::now();
    if catch_unwind(AssertUnwindSafe(|| target(text))).is_err() {
        return Some("a panic".into());
    }
    let (time, taken) = (start.elapsed(), ALLOCATOR.peak_usage_as_mb() - before);
    if time > MOST_TIME {
        return Some(format!("{time:?}"));
    }
    (taken > MOST_MEBIBYTES).then(|| format!("{taken} MiB"))
}

fn run(name: &str, target: fn(&[u8])) {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let corpus = corpus();
    let seed = number("SOFTWARE_GPU_FUZZ_SEED", 1);
    let seconds = number("SOFTWARE_GPU_FUZZ_SECONDS", 3);
    let mut random = StdRng::seed_from_u64(seed);
    let start = Instant::now();
    let mut runs = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        let text = invent(&corpus, &mut random);
        if let Some(why) = try_one(target, &text) {
            let path = std::env::temp_dir().join(format!("{name}-{seed}-{runs}"));
            fs::write(&path, &text).unwrap();
            panic!("{why}; seed {seed}, run {runs}, kept as {}", path.display());
        }
        runs += 1;
    }
    println!("{name}: {runs} texts from seed {seed} in {seconds} s");
    assert!(runs > 20, "too slow to find anything: {runs} texts");
}

#[test]
fn the_parser_comes_back_from_any_bytes() {
    run("parser", fuzzing::parser);
}

#[test]
fn the_loader_comes_back_from_any_bytes() {
    run("loader", fuzzing::loader);
}

#[test]
fn what_was_found_once_stays_mended() {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    for text in corpus() {
        for target in [fuzzing::parser, fuzzing::loader] {
            assert_eq!(try_one(target, &text), None);
        }
    }
}

/// The corpus leads into the loader and not just to its first error.
#[test]
fn the_corpus_is_mostly_right() {
    let gpu = software_gpu::Gpu::new(software_gpu::Model::h100());
    let all = files("fuzz/corpus");
    let right = all
        .iter()
        .filter(|text| software_gpu::Module::load(text, &gpu).is_ok())
        .count();
    assert!(2 * right > all.len(), "{right} of {}", all.len());
}
