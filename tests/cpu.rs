//! The suite on the host's cores.

use std::process::ExitCode;

use layernorm_host::Device;
use layernorm_tests::suite;
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let conclusion = libtest_mimic::run(&arguments, suite::trials(|| Ok(Device::cpu())));
    eprint!("{}", suite::summary());
    conclusion.exit_code()
}
