//! The suite on a CUDA GPU. Without one nothing is run, and every test is reported as ignored, never as
//! passed; with `LAYERNORM_TEST_DEVICE=cuda` a missing GPU is a failure.

use std::process::ExitCode;

use layernorm_host::Device;
use layernorm_tests::suite;
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = suite::trials(|| Device::cuda(0));
    let asked_for = std::env::var("LAYERNORM_TEST_DEVICE").is_ok_and(|device| device == "cuda");
    let missing = Device::cuda(0).err();
    let trials = match missing {
        None => trials,
        // Each trial then fails with the reason.
        Some(_) if asked_for => trials,
        Some(reason) => {
            eprintln!("CUDA WAS NOT RUN: {reason}");
            eprintln!("LAYERNORM_TEST_DEVICE=cuda makes this a failure.");
            let ignored = trials.into_iter();
            ignored.map(|trial| trial.with_ignored_flag(true)).collect()
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    eprint!("{}", suite::summary());
    conclusion.exit_code()
}
