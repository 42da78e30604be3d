//! The CPU's tables: the library's native path beside PyTorch's, on the same cores, as peers.py measures them where
//! there is no GPU.

use super::read::Run;
use super::tables::{groups, sides, table, titled};

/// Before the processor's name, where a GPU's would be.
const PREFIX: &str = "CPU: ";

pub fn is_cpu(run: &Run) -> bool {
    run.device.starts_with(PREFIX)
}

/// Milliseconds of each provider, and how often PyTorch's time holds ours.
pub fn tables(run: &Run) -> String {
    let providers = run.providers();
    let mut text = String::new();
    for (pass, dtype, shapes) in groups(run) {
        let rows = shapes.iter().map(|shape| {
            let us = |provider| Some(run.figure("speed", provider, pass, shape)?.us);
            let copy = run.copy_rate(shape).map(|rate| format!("{rate:.0}"));
            let cells = providers.iter().map(|provider| {
                let Some(own) = us(provider) else {
                    return String::new();
                };
                match us("torch") {
                    Some(torch) if *provider != "torch" => {
                        format!("{:.3} ({:.2} x)", own / 1e3, torch / own)
                    }
                    _ => format!("{:.3}", own / 1e3),
                }
            });
            [sides(shape), copy.unwrap_or_default()]
                .into_iter()
                .chain(cells)
                .collect()
        });
        let head: Vec<_> = ["n_rows x n_cols", "copy, GB/s"]
            .into_iter()
            .chain(providers.iter().copied())
            .collect();
        let pass = match pass {
            "both" => "forward and backward",
            other => other,
        };
        text += &format!("{pass}, {dtype}, ms\n\n{}\n", table(&head, rows));
    }
    if !run.peers.is_empty() {
        text += &format!("{}; ", run.peers);
    }
    let files: Vec<_> = run
        .files
        .iter()
        .map(|file| format!("[{file}](results/{}/{file})", run.folder))
        .collect();
    text += &format!("{}\n", files.join(", "));
    titled(run, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::read::of_lines as run;

    #[test]
    fn a_ratio_is_pytorchs_time_by_ours() {
        let made = tables(&run("
            copy copy speed f32 4x8 10
            torch forward speed f32 4x8 3000
            ours forward speed f32 4x8 2000
            torch both speed f32 4x8 5000"));
        assert!(
            made.contains("| n_rows x n_cols | copy, GB/s | ours | torch |\n"),
            "{made}"
        );
        assert!(made.contains("| 2.000 (1.50 x) | 3.000 |\n"), "{made}");
        assert!(made.contains("forward and backward, f32, ms"), "{made}");
        assert!(made.contains("| | 5.000 |\n"), "{made}");
    }
}
