//! `cargo xtask results`: the tables of docs/performance.md and README.md, made from what was measured, so that
//! no figure is copied by hand. Of each device the newest folder under docs/results that has a peers.csv is
//! shown, whatever it says; README.md has the newest of these. `--check` says where a page is not of the committed figures.

mod counters;
mod cpu;
mod losses;
mod read;
mod sections;
mod tables;

use std::fs;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::images;

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
    let mut stale = Vec::new();
    for (page, made) in pages {
        let path = root.join(page);
        let text = fs::read_to_string(&path).with_context(|| page.to_owned())?;
        // Whatever git made of the line ends.
        let text = text.replace('\r', "");
        let wanted = sections::replaced(&text, &made).with_context(|| page.to_owned())?;
        if text == wanted {
            println!("{page} is of these figures");
        } else if arguments.check {
            stale.push(page);
        } else {
            fs::write(&path, wanted).with_context(|| page.to_owned())?;
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
