//! Every test that a device must pass, as trials that a runner lists and runs.

mod bad_input;
mod calls;
mod fixture;
pub mod grid;
mod hard;
mod hostile;
mod numbers;
mod properties;
mod repeat;
pub mod torch;
mod views;

use layernorm_host::Device;
use libtest_mimic::Trial;

use crate::check::Verdict;

type Test = fn(&Device) -> Verdict;

/// The whole suite. `open` gives the device when a trial runs, so that listing needs none.
pub fn trials(open: fn() -> layernorm_host::Result<Device>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (file, tests) in [
        ("numbers", numbers::TESTS),
        ("calls", calls::TESTS),
        ("views", views::TESTS),
        ("repeat", repeat::TESTS),
        ("bad_input", bad_input::TESTS),
        ("hostile", hostile::TESTS),
        ("fixture", fixture::TESTS),
        ("torch", torch::TESTS),
        ("hard", hard::TESTS),
        ("properties", properties::TESTS),
        ("grid", grid::TESTS),
    ] {
        for &(name, test) in tests {
            trials.push(Trial::test(format!("{file}::{name}"), move || {
                let device = open().map_err(|error| error.to_string())?;
                test(&device).map_err(Into::into)
            }));
        }
    }
    trials
}

/// What a run has shown beside that its tests passed.
pub fn summary() -> String {
    format!(
        "{} cases of the peers' shapes; {}",
        grid::count(),
        crate::check::worst()
    )
}

/// A library error as a test's.
fn text(error: layernorm_host::Error) -> String {
    error.to_string()
}
