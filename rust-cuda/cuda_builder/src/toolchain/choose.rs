//! Which of the compilers that were seen builds device code, and if none does, what mends it.

use std::fmt;

use super::{Candidate, Found, OLDEST, Origin, Toolchain};

/// No compiler will do. Says what was looked at, what each lacks, and the command that mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoToolchain {
    looked_at: Vec<Candidate>,
}

impl std::error::Error for NoToolchain {}

/// The first that will do, in the order of [`Origin`]; among rustup's, the newest. One that
/// `CUDA_BUILDER_RUSTC` names is taken or nothing is.
pub fn choose(candidates: &[Candidate]) -> Result<Toolchain, NoToolchain> {
    let mut in_order: Vec<&Candidate> = candidates.iter().collect();
    in_order.sort_by_key(|candidate| {
        let version = candidate.found.as_ref().ok().map(|found| found.version);
        match &candidate.origin {
            Origin::Variable => (0, None),
            Origin::Active => (1, None),
            Origin::Rustup(_) => (2, Some(std::cmp::Reverse(version))),
            Origin::System => (3, None),
        }
    });
    if let Some(named) = in_order.first()
        && named.origin == Origin::Variable
    {
        in_order.truncate(1);
    }
    in_order
        .iter()
        .find_map(|candidate| usable(candidate).ok())
        .ok_or_else(|| NoToolchain {
            looked_at: in_order.into_iter().cloned().collect(),
        })
}

/// What a person would want to know of a candidate: that it can be used, or what it lacks.
pub fn verdict(candidate: &Candidate) -> Result<Toolchain, String> {
    usable(candidate)
}

fn usable(candidate: &Candidate) -> Result<Toolchain, String> {
    let found = candidate.found.as_ref().map_err(Clone::clone)?;
    let Found {
        version,
        description,
        rustc,
        cargo,
        has_rust_src,
    } = found;
    if *version < OLDEST {
        return Err(format!("{version} is older than {OLDEST}"));
    }
    if !has_rust_src {
        return Err(format!("{version} has no rust-src"));
    }
    let Some(cargo) = cargo else {
        return Err(format!("{version} has no cargo beside it"));
    };
    Ok(Toolchain {
        origin: candidate.origin.clone(),
        version: *version,
        description: description.clone(),
        rustc: rustc.clone(),
        cargo: cargo.clone(),
    })
}

impl NoToolchain {
    /// The command that mends it.
    pub fn remedy(&self) -> String {
        let with_rustup = self.looked_at.iter().find_map(|candidate| {
            let found = candidate.found.as_ref().ok()?;
            let lacks_only_sources = found.version >= OLDEST && !found.has_rust_src;
            match &candidate.origin {
                Origin::Rustup(name) if lacks_only_sources => {
                    Some(format!("rustup component add rust-src --toolchain {name}"))
                }
                _ => None,
            }
        });
        let named = self.looked_at.first().map(|candidate| &candidate.origin);
        match (named, with_rustup) {
            (Some(Origin::Variable), _) => format!(
                "set CUDA_BUILDER_RUSTC to a rustc of at least {OLDEST} that has rust-src, or unset it"
            ),
            (_, Some(command)) => {
                format!("{command}\n  or, on Debian: {DEBIAN}")
            }
            (_, None) => format!(
                "rustup toolchain install {OLDEST} --component rust-src\n  or, on Debian: {DEBIAN}"
            ),
        }
    }
}

const DEBIAN: &str = "apt-get install rustc-web cargo-web rust-web-src";

impl fmt::Display for NoToolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "no compiler here can build device code: it takes rustc {OLDEST} or newer with rust-src, \
             the sources of `core`. Looked at:"
        )?;
        for candidate in &self.looked_at {
            let path = candidate.path.display();
            let lack = usable(candidate).err().unwrap_or_default();
            writeln!(f, "  {}, {path}: {lack}", candidate.origin)?;
        }
        if self.looked_at.is_empty() {
            writeln!(f, "  no rustc in PATH, none in rustup's folder")?;
        }
        write!(f, "To mend it:\n  {}", self.remedy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::Version;

    fn candidate(origin: Origin, release: &str, has_rust_src: bool) -> Candidate {
        let name = format!("{origin}-{release}").replace(' ', "-");
        Candidate {
            origin,
            path: format!("/{name}/rustc").into(),
            found: Ok(Found {
                version: Version::parse(release).unwrap(),
                description: format!("rustc {release}"),
                rustc: format!("/{name}/rustc").into(),
                cargo: Some(format!("/{name}/cargo").into()),
                has_rust_src,
            }),
        }
    }

    fn rustup(name: &str) -> Origin {
        Origin::Rustup(name.into())
    }

    #[test]
    fn the_active_toolchain_comes_first() {
        let chosen = choose(&[
            candidate(Origin::System, "1.99.0", true),
            candidate(rustup("nightly"), "1.98.0-nightly", true),
            candidate(Origin::Active, "1.95.0", true),
        ])
        .unwrap();
        assert_eq!(chosen.origin, Origin::Active);
        assert_eq!(chosen.version, OLDEST);
    }

    #[test]
    fn without_its_sources_another_of_rustups_is_taken_the_newest() {
        let chosen = choose(&[
            candidate(Origin::Active, "1.95.0", false),
            candidate(rustup("1.96.0"), "1.96.0", true),
            candidate(rustup("nightly"), "1.98.0-nightly", true),
            candidate(rustup("old"), "1.90.0", true),
            candidate(rustup("bare"), "1.99.0", false),
            candidate(Origin::System, "1.99.0", true),
        ])
        .unwrap();
        assert_eq!(chosen.origin, rustup("nightly"));
    }

    #[test]
    fn the_systems_is_the_last_resort() {
        let chosen = choose(&[
            candidate(Origin::Active, "1.95.0", false),
            candidate(rustup("old"), "1.90.0", true),
            candidate(Origin::System, "1.96.0", true),
        ])
        .unwrap();
        assert_eq!(chosen.origin, Origin::System);
        assert!(chosen.cargo.starts_with("/the-system's-1.96.0"));
    }

    #[test]
    fn the_variable_decides_alone() {
        let usable = candidate(Origin::Active, "1.95.0", true);
        let named = candidate(Origin::Variable, "1.96.0", true);
        let chosen = choose(&[usable.clone(), named]).unwrap();
        assert_eq!(chosen.origin, Origin::Variable);

        let named = candidate(Origin::Variable, "1.96.0", false);
        let error = choose(&[usable, named]).unwrap_err().to_string();
        assert!(error.contains("CUDA_BUILDER_RUSTC, "), "{error}");
        assert!(error.contains("has no rust-src"), "{error}");
        assert!(error.contains("or unset it"), "{error}");
        assert!(!error.contains("active"), "{error}");
    }

    #[test]
    fn a_compiler_without_cargo_is_passed_over() {
        let mut alone = candidate(Origin::Active, "1.96.0", true);
        alone.found.as_mut().unwrap().cargo = None;
        let error = choose(&[alone.clone()]).unwrap_err().to_string();
        assert!(error.contains("no cargo beside it"), "{error}");
        let next = candidate(Origin::System, "1.96.0", true);
        assert_eq!(choose(&[alone, next]).unwrap().origin, Origin::System);
    }

    #[test]
    fn when_none_will_do_each_is_named_with_what_it_lacks() {
        let broken = Candidate {
            origin: rustup("broken"),
            path: "/broken/rustc".into(),
            found: Err("cannot run it: No such file".into()),
        };
        let error = choose(&[
            candidate(Origin::Active, "1.95.0", false),
            candidate(rustup("1.94.0"), "1.94.0", true),
            candidate(rustup("stable"), "1.95.0", false),
            broken,
        ])
        .unwrap_err()
        .to_string();
        for part in [
            "the active toolchain, ",
            "1.95.0 has no rust-src",
            "rustup's 1.94.0, ",
            "1.94.0 is older than 1.95.0",
            "rustup's broken, /broken/rustc: cannot run it",
            "rustup component add rust-src --toolchain stable",
            "apt-get install rustc-web cargo-web rust-web-src",
        ] {
            assert!(error.contains(part), "{part:?} is not in:\n{error}");
        }
    }

    #[test]
    fn with_no_compiler_at_all_one_is_to_be_installed() {
        let error = choose(&[]).unwrap_err().to_string();
        assert!(error.contains("no rustc in PATH"), "{error}");
        assert!(
            error.contains("rustup toolchain install 1.95.0 --component rust-src"),
            "{error}"
        );
    }
}
