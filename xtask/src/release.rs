//! `cargo xtask release`: what must hold for a release beside the tests. Licences of every dependency, one oldest
//! compiler, and crates that carry what a registry wants to know.
//!
//! The licences that are allowed stand in `deny.toml`, where cargo-deny reads them too; this needs neither it nor
//! the net.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::images;

/// What is meant for a registry; CHANGELOG.md says why the others are not.
const PUBLISHED: [&str; 3] = ["software-gpu", "software-gpu-libcuda", "cuda-driver"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    description: Option<String>,
    readme: Option<String>,
    rust_version: Option<String>,
    keywords: Vec<String>,
    categories: Vec<String>,
    /// Registries it may go to; none at all for `publish = false`.
    publish: Option<Vec<String>>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
    req: String,
}

pub fn run() -> Result<()> {
    let root = images::root();
    let read = |name: &str| {
        fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"))
    };
    let allowed = allowed(&read("deny.toml")?)?;
    let metadata = metadata()?;
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let license = package.license.as_deref().unwrap_or("no licence at all");
        if !is_allowed(license, &allowed) {
            faults.push(format!("{} {}: {license}", package.name, package.version));
        }
    }
    let toolchain = read("rust-toolchain.toml")?;
    let members: Vec<&Package> = metadata
        .packages
        .iter()
        .filter(|package| metadata.workspace_members.contains(&package.id))
        .collect();
    for package in &members {
        faults.extend(of_member(package, &toolchain));
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n       "));
    }
    println!(
        "{} packages, all under allowed licences; the oldest compiler is the one that CI runs; to be published: {}",
        metadata.packages.len(),
        PUBLISHED.join(", ")
    );
    Ok(())
}

fn metadata() -> Result<Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(&cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--all-features",
        ])
        .current_dir(images::root())
        .output()
        .with_context(|| format!("cannot run {}", cargo.display()))?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout)
        .context("cargo metadata gives something else than it should")
}

/// What is wrong with a crate of this workspace.
fn of_member(package: &Package, toolchain: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = &package.name;
    match &package.rust_version {
        // CI has one compiler, so that one is what `rust-version` may promise.
        Some(version) if toolchain.contains(&format!("channel = \"{version}.0\"")) => {}
        other => faults.push(format!(
            "{name}: rust-version is {other:?}, which is not rust-toolchain.toml's"
        )),
    }
    if package.description.is_none() {
        faults.push(format!("{name}: no description"));
    }
    if !PUBLISHED.contains(&name.as_str()) {
        if package.publish.as_ref().is_none_or(|to| !to.is_empty()) {
            faults.push(format!(
                "{name} is not to be published and lacks `publish = false`"
            ));
        }
        return faults;
    }
    if package.publish.is_some() {
        faults.push(format!("{name} is to be published and forbids it"));
    }
    for (what, missing) in [
        ("keywords", package.keywords.is_empty()),
        ("categories", package.categories.is_empty()),
        ("readme", package.readme.is_none()),
    ] {
        if missing {
            faults.push(format!("{name} is to be published and has no {what}"));
        }
    }
    for dependency in package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
    {
        if dependency.path.is_none() {
            continue;
        }
        let private = !PUBLISHED.contains(&dependency.name.as_str());
        if private || dependency.req == "*" {
            faults.push(format!(
                "{name} is to be published and depends on {}, which is not",
                dependency.name
            ));
        }
    }
    faults
}

/// The strings of `allow = [...]`.
fn allowed(deny: &str) -> Result<BTreeSet<String>> {
    let list = deny
        .split_once("allow = [")
        .and_then(|(_, rest)| rest.split_once(']'));
    let (list, _) = list.context("deny.toml has no list of allowed licences")?;
    Ok(list
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect())
}

/// Whether an SPDX expression can be met: of an OR one side, of an AND both. `/` is the old way to write OR.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.trim();
    for (word, both) in [(" OR ", false), (" AND ", true), ("/", false)] {
        if let Some((left, right)) = outside_parentheses(expression, word) {
            let (left, right) = (is_allowed(left, allowed), is_allowed(right, allowed));
            return if both { left && right } else { left || right };
        }
    }
    let inside = expression
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'));
    inside.map_or_else(
        || allowed.contains(expression),
        |inside| is_allowed(inside, allowed),
    )
}

/// Splits at the first such word that no parentheses hold.
fn outside_parentheses<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let found = text.match_indices(word).map(|(at, _)| at).find(|at| {
        let before = &text[..*at];
        before.matches('(').count() == before.matches(')').count()
    })?;
    Some((&text[..found], &text[found + word.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_expressions() {
        let allowed = allowed(
            "x\nallow = [\n  \"MIT\",\n  \"Apache-2.0\", \"Apache-2.0 WITH LLVM-exception\",\n]",
        )
        .unwrap();
        assert_eq!(allowed.len(), 3);
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "GPL-3.0/MIT",
            "(MIT OR GPL-3.0) AND Apache-2.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
            "(MIT)",
        ] {
            assert!(is_allowed(good, &allowed), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(GPL-3.0 OR X) AND MIT",
            "MITX",
            "Apache-2.0 WITH other",
        ] {
            assert!(!is_allowed(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn a_crate_that_is_to_be_published_carries_what_it_needs() {
        let package = |name: &str, dependency: Option<&str>| Package {
            id: name.into(),
            name: name.into(),
            version: "0.1.0".into(),
            license: None,
            description: Some("one".into()),
            readme: Some("README.md".into()),
            rust_version: Some("1.95".into()),
            keywords: vec!["k".into()],
            categories: vec!["c".into()],
            publish: (!PUBLISHED.contains(&name)).then(Vec::new),
            dependencies: dependency
                .map(|name| Dependency {
                    name: name.into(),
                    kind: None,
                    path: Some(name.into()),
                    req: "^0.1".into(),
                })
                .into_iter()
                .collect(),
        };
        let toolchain = "channel = \"1.95.0\"";
        let faults = |package: &Package| of_member(package, toolchain).len();
        assert_eq!(faults(&package("cuda-driver", Some("software-gpu"))), 0);
        assert_eq!(faults(&package("cuda-driver", Some("kernels-gpu"))), 1);
        assert_eq!(faults(&package("kernels-gpu", Some("cuda_std"))), 0);
        assert_eq!(
            of_member(&package("kernels-gpu", None), "channel = \"1.96.0\"").len(),
            1
        );
        let mut loose = package("kernels-gpu", None);
        loose.publish = None;
        assert_eq!(faults(&loose), 1);
        let mut bare = package("software-gpu", None);
        (bare.readme, bare.keywords, bare.publish) = (None, Vec::new(), Some(Vec::new()));
        assert_eq!(faults(&bare), 3);
    }
}
