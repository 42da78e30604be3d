//! `cargo xtask results`: the tables of docs/performance.md and README.md and the latter's plot, made from what was
//! measured, so that no figure is copied by hand. Of each device the newest folder under docs/results that has a peers.csv is
//! shown, whatever it says; README.md has the newest of these. `--check` says where a page is not of the committed figures.

mod counters;
mod cpu;
mod losses;
mod plot;
mod read;
mod sections;
mod tables;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::images;

/// README.md shows it.
const PLOT: &str = "docs/speed.svg";

#[derive(Args)]
pub struct Arguments {
    /// Change nothing; fail where a page would change
    #[arg(long)]
    check: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let root = images::root();
    let all = read::newest(&root.join("docs/results"))?;
    let (on_cpus, runs): (Vec<_>, Vec<_>) = all.into_iter().partition(cpu::is_cpu);
    let joined = |runs: &[read::Run], table: fn(&read::Run) -> String| {
        let parts: Vec<_> = runs.iter().map(table).collect();
        parts.join("\n")
    };
    let of_each = |table| joined(&runs, table);
    let pages = [
        (
            "docs/performance.md",
            vec![
                ("runs", tables::runs(&runs)),
                ("losses", of_each(losses::losses)),
                ("speed", of_each(tables::speed)),
                ("launches", of_each(tables::launches)),
                ("counters", of_each(tables::counters)),
                ("cpu", joined(&on_cpus, cpu::tables)),
            ],
        ),
        (
            "README.md",
            vec![("short", runs.first().map(tables::short).unwrap_or_default())],
        ),
    ];
    // Whatever git made of the line ends.
    let read = |path: &Path| Ok::<_, std::io::Error>(fs::read_to_string(path)?.replace('\r', ""));
    let mut made = Vec::new();
    for (page, parts) in pages {
        let text = read(&root.join(page)).context(page)?;
        let wanted = sections::replaced(&text, &parts).context(page)?;
        made.push((page, text, wanted));
    }
    if let Some(drawn) = runs.first().and_then(plot::svg) {
        let text = read(&root.join(PLOT)).unwrap_or_default();
        made.push((PLOT, text, drawn));
    }
    let mut stale = Vec::new();
    for (page, text, wanted) in made {
        if text == wanted {
            println!("{page} is of these figures");
        } else if arguments.check {
            stale.push(page);
        } else {
            fs::write(root.join(page), wanted).context(page)?;
            println!("{page}: written");
        }
    }
    if !stale.is_empty() {
        bail!(
            "not of the figures in docs/results: {}\nto mend it: cargo xtask results",
            stale.join(", ")
        );
    }
    Ok(())
}
