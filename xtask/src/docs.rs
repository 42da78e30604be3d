//! `cargo xtask docs`: every page's links and blocks, and the commands that CI runs from them.
//!
//! A block marked `sh` is a list of commands, one a line, that work from the repository's root on a machine
//! without a GPU. `sh gpu` marks those that want hardware. A block without a mark must hold none.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::images;

/// The blocks' marks that a page may have.
const MARKS: [&str; 7] = ["", "sh", "sh gpu", "text", "toml", "rust", "rust,no_run"];

/// What a command starts with, so that one in a block without a mark is found.
const COMMANDS: [&str; 8] = [
    "cargo ",
    "python3 ",
    "pip ",
    "rustup ",
    "layernorm ",
    "scripts/",
    ".ci/",
    "$ ",
];

/// Where pages are.
const FOLDERS: [&str; 5] = ["", "docs", "benches", "scripts", "tests/fixtures"];

#[derive(Args)]
pub struct Arguments {
    /// Print the commands of every page, `PAGE<tab>COMMAND`, instead of checking
    #[arg(long)]
    commands: bool,
}

/// A page, as far as it is looked at here.
struct Page {
    /// From the root.
    path: PathBuf,
    text: String,
}

/// A line of a page and the mark of the block that it is in; `None` outside of blocks.
type Line<'a> = (usize, &'a str, Option<&'a str>);

pub fn run(arguments: &Arguments) -> Result<()> {
    let root = images::root();
    let pages = pages(&root)?;
    if arguments.commands {
        for page in &pages {
            for (_, line, _) in page.lines().filter(|line| line.2 == Some("sh")) {
                if !line.trim().is_empty() {
                    println!("{}\t{line}", page.path.display());
                }
            }
        }
        return Ok(());
    }
    let mut faults: Vec<String> = pages.iter().flat_map(|page| faults(page, &root)).collect();
    faults.extend(unlisted(&pages));
    if !faults.is_empty() {
        bail!("{}", faults.join("\n       "));
    }
    let commands: usize = pages
        .iter()
        .map(|page| page.lines().filter(|line| line.2 == Some("sh")).count())
        .sum();
    println!(
        "{} pages: every link leads somewhere; {commands} commands are for CI",
        pages.len()
    );
    Ok(())
}

fn pages(root: &Path) -> Result<Vec<Page>> {
    let mut pages = Vec::new();
    for folder in FOLDERS {
        let Ok(entries) = fs::read_dir(root.join(folder)) else {
            continue;
        };
        for entry in entries {
            let name = entry?.file_name();
            let path = Path::new(folder).join(name);
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(root.join(&path));
                let text = text.with_context(|| format!("cannot read {}", path.display()))?;
                pages.push(Page { path, text });
            }
        }
    }
    // The README's commands first: a reader types them first.
    pages.sort_by_key(|page| (page.path != Path::new("README.md"), page.path.clone()));
    Ok(pages)
}

impl Page {
    /// The lines, without the fences themselves.
    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut mark = None;
        self.text
            .lines()
            .enumerate()
            .filter_map(move |(number, line)| {
                match (line.trim_start().strip_prefix("```"), mark) {
                    (Some(opened), None) => mark = Some(opened.trim()),
                    (Some(_), Some(_)) => mark = None,
                    (None, _) => return Some((number + 1, line, mark)),
                }
                None
            })
    }

    /// What `#...` may name.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self
            .lines()
            .filter(|line| line.2.is_none() && line.1.starts_with('#'));
        headings
            .map(|(_, line, _)| anchor(line.trim_start_matches('#')))
            .collect()
    }
}

/// A heading as GitHub makes an anchor of it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn faults(page: &Page, root: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |number: usize, what: String| {
        faults.push(format!("{}:{number}: {what}", page.path.display()))
    };
    for (number, line, mark) in page.lines() {
        match mark {
            None => {
                for link in links(line) {
                    if let Some(what) = broken(link, page, root) {
                        fault(number, what);
                    }
                }
            }
            Some(mark) if !MARKS.contains(&mark) => fault(
                number,
                format!("a block marked {mark:?}; known are {MARKS:?}"),
            ),
            Some("")
                if COMMANDS
                    .iter()
                    .any(|start| line.trim_start().starts_with(start)) =>
            {
                fault(
                    number,
                    format!("a command in a block without a mark: {}", line.trim()),
                );
            }
            Some("sh") if line.trim_end().ends_with('\\') => {
                fault(number, "a command goes over several lines".to_owned())
            }
            Some(_) => {}
        }
    }
    if page
        .text
        .lines()
        .filter(|line| line.trim_start().starts_with("```"))
        .count()
        % 2
        == 1
    {
        fault(1, "a block is not closed".to_owned());
    }
    faults
}

/// Pages of docs that its list of pages does not link to.
fn unlisted(pages: &[Page]) -> Vec<String> {
    let list = Path::new("docs/README.md");
    let listed: BTreeSet<&str> = pages
        .iter()
        .filter(|page| page.path == list)
        .flat_map(|page| page.lines().flat_map(|(_, line, _)| links(line)))
        .collect();
    let of_docs = pages
        .iter()
        .map(|page| page.path.as_path())
        .filter(|path| path.parent() == list.parent() && *path != list);
    of_docs
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_none_or(|name| !listed.contains(name))
        })
        .map(|path| format!("{}: {} is not linked to", list.display(), path.display()))
        .collect()
}

/// The targets of a line's links.
fn links(line: &str) -> impl Iterator<Item = &str> {
    // What is code is no link.
    let code_free = line.split('`').step_by(2);
    code_free
        .flat_map(|text| text.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
}

/// Why a link leads nowhere. Where it leads on the web nobody asks.
fn broken(link: &str, page: &Page, root: &Path) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, fragment) = link
        .split_once('#')
        .map_or((link, None), |(path, fragment)| (path, Some(fragment)));
    if path.is_empty() {
        let fragment = fragment.unwrap_or_default();
        return (!page.anchors().contains(fragment)).then(|| format!("{link}: no such heading"));
    }
    let path = page.path.parent().unwrap_or(Path::new("")).join(path);
    if !root.join(&path).exists() {
        return Some(format!("{link} leads nowhere"));
    }
    let fragment = fragment?;
    let text = fs::read_to_string(root.join(&path)).unwrap_or_default();
    let there = Page { path, text };
    (!there.anchors().contains(fragment)).then(|| format!("{link}: no such heading"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page {
            path: "docs/page.md".into(),
            text: text.to_owned(),
        }
    }

    fn found(text: &str) -> Vec<String> {
        faults(&page(text), &images::root())
    }

    #[test]
    fn links_are_followed() {
        let whole = "# Some *heading*, here\n[a](../README.md) [b](#some-heading-here) [c](https://x.invalid) `[d](x)`\n";
        assert_eq!(found(whole), Vec::<String>::new());
        for bad in [
            "[a](absent.md)",
            "[a](../README.md#absent)",
            "text [a](#b) more",
        ] {
            assert_eq!(found(bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn blocks_are_marked() {
        assert!(found("```sh\ncargo test\n```\n").is_empty());
        assert!(found("```\nsome output\n```\n").is_empty());
        for bad in [
            "```\ncargo test\n```",
            "```bash\nls\n```",
            "```sh\ncargo \\\n test\n```",
            "```sh\ncargo test",
        ] {
            assert!(!found(bad).is_empty(), "{bad}");
        }
        let commands = page("a\n```sh\none\n\ntwo\n```\n```sh gpu\nthree\n```\n");
        let commands: Vec<&str> = commands
            .lines()
            .filter(|line| line.2 == Some("sh"))
            .map(|line| line.1)
            .collect();
        assert_eq!(commands, ["one", "", "two"]);
    }

    /// The page of the software GPU says which test finds what: each is there.
    #[test]
    fn tests_that_a_page_names_are_there() {
        let root = images::root();
        let page = fs::read_to_string(root.join("docs/software-gpu.md")).unwrap();
        let table = page.split("| what is found |").nth(1).unwrap();
        let rows = table
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        let mut tests = String::new();
        for folder in [
            "software-gpu/tests",
            "software-gpu/src/driver",
            "cuda-driver/tests",
        ] {
            for entry in fs::read_dir(root.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(path).unwrap();
                    // Those inside a module are indented.
                    text.lines().for_each(|line| {
                        tests += line.trim_start();
                        tests += "\n";
                    });
                }
            }
        }
        let mut named = 0;
        for row in rows {
            let (_, cell) = row.trim_end_matches('|').rsplit_once('|').unwrap();
            for name in cell.split('`').skip(1).step_by(2) {
                let is_file = name.ends_with(".rs");
                assert!(
                    is_file || tests.contains(&format!("#[test]\nfn {name}()")),
                    "{name}"
                );
                named += usize::from(!is_file);
            }
        }
        assert!(named > 20, "{named}");
    }

    #[test]
    fn every_page_is_listed() {
        let listed = |list: &str| {
            let page = |path: &str, text: &str| Page {
                path: path.into(),
                text: text.to_owned(),
            };
            unlisted(&[
                page("README.md", ""),
                page("docs/README.md", list),
                page("docs/a.md", ""),
                page("docs/b.md", "[b](b.md)"),
            ])
        };
        assert!(listed("| [a](a.md) | [b](b.md) |").is_empty());
        let found = listed("| [a](a.md) | b.md |");
        assert_eq!(found, ["docs/README.md: docs/b.md is not linked to"]);
    }

    #[test]
    fn this_repositorys_pages_hold() {
        let root = images::root();
        let pages = pages(&root).unwrap();
        for page in &pages {
            assert_eq!(faults(page, &root), Vec::<String>::new());
        }
        assert_eq!(unlisted(&pages), Vec::<String>::new());
    }
}
