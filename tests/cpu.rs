//! The suite on the host's cores.

use std::process::ExitCode;

use layernorm_host::Device;
use layernorm_tests::suite;
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    libtest_mimic::run(&arguments, suite::trials(|| Ok(Device::cpu()))).exit_code()
}
