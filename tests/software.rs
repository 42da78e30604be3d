//! The suite on the software GPU, which is everywhere.

use std::process::ExitCode;

use layernorm_host::Device;
use layernorm_tests::suite;
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let conclusion = libtest_mimic::run(&arguments, suite::trials(|| Device::software(0)));
    eprint!("{}", suite::summary());
    conclusion.exit_code()
}
