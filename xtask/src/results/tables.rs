//! Markdown of what was measured. A cell of what was not measured is blank.

use super::losses;
use super::read::{Run, Shape};

pub(super) const PASSES: [&str; 3] = ["forward", "backward", "both"];
/// What README.md shows, of those that were measured.
const SHORT_DTYPE: &str = "bf16";
const SHORT_COLS: [u64; 6] = [512, 1024, 4096, 8192, 32768, 4099];

/// What was measured where.
pub fn runs(runs: &[Run]) -> String {
    let rows = runs.iter().map(|run| {
        let of_file = |file: &&str| format!("[{file}](results/{}/{file})", run.folder);
        let files: Vec<_> = run.files.iter().map(of_file).collect();
        [
            &run.device,
            &run.driver,
            &run.date,
            &run.commit,
            &run.peers,
            &files.join(", "),
        ]
        .map(String::clone)
    });
    table(
        &["device", "driver", "date", "commit", "peers", "files"],
        rows.map(Vec::from),
    )
}

/// Every shape that filled the device: GB/s and the share of the copy's.
pub fn speed(run: &Run) -> String {
    let providers = run.providers();
    let mut text = String::new();
    let mut measured = Vec::new();
    for (pass, dtype, shapes) in groups(run) {
        let rows = shapes.iter().map(|shape| {
            let copy = run.copy_rate(shape);
            let mut cells = vec![
                sides(shape),
                copy.map_or(String::new(), |rate| format!("{rate:.0}")),
            ];
            cells.extend(rates(run, &providers, pass, shape));
            cells
        });
        let head: Vec<_> = ["n_rows x n_cols", "copy"]
            .into_iter()
            .chain(providers.iter().copied())
            .collect();
        text += &format!("{pass}, {dtype}\n\n{}\n", table(&head, rows));
        measured.push(pass);
    }
    let missing: Vec<_> = PASSES
        .into_iter()
        .filter(|pass| !measured.contains(pass))
        .collect();
    if !missing.is_empty() {
        text += &format!("Not measured here: {}.\n", missing.join(", "));
    }
    titled(run, text)
}

/// A few rows, where launches cost more than memory: on the device, and what a call costs the host.
pub fn launches(run: &Run) -> String {
    let providers = run.providers();
    let mut rows = Vec::new();
    for shape in run.shapes(false) {
        for pass in PASSES {
            let of = |metric: &str| -> Vec<Option<f64>> {
                let us = |provider: &&str| Some(run.figure(metric, provider, pass, &shape)?.us);
                providers.iter().map(us).collect()
            };
            let [device, host] = ["speed", "host"]
                .map(|metric| marked(&of(metric), f64::lt, |us| format!("{us:.1}")));
            if device.iter().chain(&host).any(|cell| !cell.is_empty()) {
                let cells = device.iter().zip(&host).map(|(device, host)| {
                    match (device.as_str(), host.as_str()) {
                        ("", "") => String::new(),
                        (device, host) => format!("{device} / {host}"),
                    }
                });
                let first = [
                    pass.to_owned(),
                    format!("{} {}", sides(&shape), shape.dtype),
                ];
                rows.push(first.into_iter().chain(cells).collect());
            }
        }
    }
    let head: Vec<_> = ["pass", "n_rows x n_cols"]
        .into_iter()
        .chain(providers)
        .collect();
    titled(run, table(&head, rows))
}

/// DRAM's bytes by ncu beside those that the software GPU saw used.
pub fn counters(run: &Run) -> String {
    let million = |bytes: f64| format!("{:.1}", bytes / 1e6);
    let blank = String::new;
    let rows = run.counted.iter().map(|one| {
        let (read, written) = one.software.unzip();
        vec![
            one.problem.clone(),
            format!("`{}`", one.kernel),
            million(one.read),
            read.map_or_else(blank, million),
            million(one.written),
            written.map_or_else(blank, million),
            one.throughput
                .map_or_else(blank, |percent| format!("{percent:.0} %")),
            one.us.map_or_else(blank, |us| format!("{us:.1}")),
        ]
    });
    let head = [
        "n_rows x n_cols",
        "kernel",
        "MB read",
        "software GPU",
        "MB written",
        "software GPU",
        "of the peak",
        "us",
    ];
    titled(run, table(&head, rows))
}

/// For README.md: some shapes, and the worst of all that were measured.
pub fn short(run: &Run) -> String {
    let providers = run.providers();
    let mut rows = Vec::new();
    for pass in PASSES {
        for n_cols in SHORT_COLS {
            let chosen = |shape: &Shape| shape.n_cols == n_cols && shape.dtype == SHORT_DTYPE;
            for shape in run.shapes(true).into_iter().filter(chosen) {
                let cells = rates(run, &providers, pass, &shape);
                if cells.iter().any(|cell| !cell.is_empty()) {
                    rows.push([vec![format!("{pass}, {}", sides(&shape))], cells].concat());
                }
            }
        }
    }
    let head: Vec<_> = [format!("{SHORT_DTYPE}, n_rows x n_cols")]
        .into_iter()
        .chain(providers.iter().map(|&provider| provider.to_owned()))
        .collect();
    let head: Vec<_> = head.iter().map(String::as_str).collect();
    let mut text = table(&head, rows);
    text += &losses::summary(run);
    titled(run, text)
}

/// (pass, dtype, shapes) of what filled the device and has a figure.
pub(super) fn groups(run: &Run) -> Vec<(&'static str, String, Vec<Shape>)> {
    let shapes = run.shapes(true);
    let providers = run.providers();
    let mut groups: Vec<(&'static str, String, Vec<Shape>)> = Vec::new();
    for pass in PASSES {
        for shape in &shapes {
            if !providers
                .iter()
                .any(|provider| run.rate(provider, pass, shape).is_some())
            {
                continue;
            }
            match groups.last_mut() {
                Some((last, dtype, shapes)) if *last == pass && *dtype == shape.dtype => {
                    shapes.push(shape.clone())
                }
                _ => groups.push((pass, shape.dtype.clone(), vec![shape.clone()])),
            }
        }
    }
    groups
}

fn rates(run: &Run, providers: &[&str], pass: &str, shape: &Shape) -> Vec<String> {
    let copy = run.copy_rate(shape);
    let of_each: Vec<_> = providers
        .iter()
        .map(|provider| run.rate(provider, pass, shape))
        .collect();
    marked(&of_each, f64::gt, |rate| match copy {
        Some(copy) => format!("{rate:.0} ({:.0}%)", 100.0 * rate / copy),
        None => format!("{rate:.0}"),
    })
}

/// The cells, with the best in bold.
fn marked(
    values: &[Option<f64>],
    better: fn(&f64, &f64) -> bool,
    text: impl Fn(f64) -> String,
) -> Vec<String> {
    let best = values
        .iter()
        .flatten()
        .copied()
        .reduce(|a, b| if better(&b, &a) { b } else { a });
    let cell = |value: &Option<f64>| match *value {
        None => String::new(),
        Some(value) if Some(value) == best => format!("**{}**", text(value)),
        Some(value) => text(value),
    };
    values.iter().map(cell).collect()
}

pub(super) fn sides(shape: &Shape) -> String {
    format!("{} x {}", shape.n_rows, shape.n_cols)
}

pub(super) fn titled(run: &Run, text: String) -> String {
    let text = if text.is_empty() {
        "Not measured here.\n"
    } else {
        &text
    };
    format!(
        "**{}**, {}, commit {}\n\n{text}",
        run.device, run.date, run.commit
    )
}

/// Nothing where there are no rows.
pub(super) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[&str]| {
        let cells = cells.iter().map(|cell| {
            if cell.is_empty() {
                " |".to_owned()
            } else {
                format!(" {cell} |")
            }
        });
        format!("|{}\n", cells.collect::<String>())
    };
    let rows: Vec<String> = rows
        .into_iter()
        .map(|cells| line(&cells.iter().map(String::as_str).collect::<Vec<_>>()))
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "{}|{}\n{}",
        line(head),
        "---|".repeat(head.len()),
        rows.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::read::of_lines as run;

    const FULL: &str = "
        copy copy speed bf16 32x8 1
        ours forward speed bf16 32x8 2
        torch forward speed bf16 32x8 4
        liger forward speed bf16 32x8 1.6
        copy copy speed bf16 16x8 1
        ours forward speed bf16 16x8 2
        torch forward speed bf16 16x8 2
        torch both speed bf16 16x8 4
        ours forward speed bf16 1x8 2.5
        torch forward speed bf16 1x8 3
        torch forward host bf16 1x8 9
        ours forward host bf16 1x8 3.2";

    #[test]
    fn each_number_of_rows_has_its_own_line() {
        let made = speed(&run(FULL));
        assert!(
            made.contains("| n_rows x n_cols | copy | ours | torch | liger |\n"),
            "{made}"
        );
        assert!(
            made.contains("| 32 x 8 | 1000 | 500 (50%) | 250 (25%) | **625 (62%)** |\n"),
            "{made}"
        );
        assert!(
            made.contains("| 16 x 8 | 1000 | **500 (50%)** | **500 (50%)** | |\n"),
            "{made}"
        );
        assert!(
            !made.contains("1 x 8"),
            "a few rows have a table of their own: {made}"
        );
    }

    #[test]
    fn passes_are_not_mixed_and_what_is_missing_is_said() {
        let made = speed(&run(FULL));
        assert!(made.contains("both, bf16"), "{made}");
        assert!(
            made.contains("| 16 x 8 | 1000 | | **250 (25%)** | |\n"),
            "{made}"
        );
        assert!(made.contains("Not measured here: backward."), "{made}");
    }

    #[test]
    fn a_few_rows_have_device_and_host() {
        let made = launches(&run(FULL));
        assert!(
            made.contains("| forward | 1 x 8 bf16 | **2.5** / **3.2** | 3.0 / 9.0 | |\n"),
            "{made}"
        );
        assert!(!made.contains("32 x 8"), "{made}");
    }

    #[test]
    fn the_short_table_has_some_shapes_of_one_dtype() {
        let made = short(&run("
            copy copy speed bf16 2x1024 1
            ours forward speed bf16 2x1024 2
            torch forward speed bf16 2x1024 4
            copy copy speed f32 2x1024 1
            ours backward speed f32 2x1024 4"));
        assert!(
            made.contains("| forward, 2 x 1024 | **500 (50%)** | 250 (25%) |\n"),
            "{made}"
        );
        assert!(!made.contains("| backward"), "{made}");
        assert!(
            made.ends_with("Of all 1 that were measured, ours is the fastest at 1.\n"),
            "{made}"
        );
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let made = run("ours forward speed f32 1x8 2");
        for table in [losses::losses, counters] {
            assert!(
                table(&made).contains("Not measured here."),
                "{}",
                table(&made)
            );
        }
    }
}
