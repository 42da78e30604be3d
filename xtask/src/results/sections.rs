//! The parts of a page that are made: what lies between `<!-- results:begin NAME -->` and `<!-- results:end -->`.

use anyhow::{Context, Result, bail};

const BEGIN: &str = "<!-- results:begin ";
const END: &str = "<!-- results:end -->";

/// The page with each section's text in its place. A page has each of the sections once, and no others.
pub fn replaced(page: &str, sections: &[(&str, String)]) -> Result<String> {
    let mut out = String::new();
    let mut rest = page;
    let mut seen = Vec::new();
    while let Some(at) = rest.find(BEGIN) {
        let (before, from) = rest.split_at(at);
        let (name, _) = from[BEGIN.len()..]
            .split_once(" -->")
            .context("a section's first line does not end")?;
        let (_, text) = sections
            .iter()
            .find(|(known, _)| *known == name)
            .with_context(|| format!("no section is called {name:?}"))?;
        let end = from
            .find(END)
            .with_context(|| format!("section {name} has no {END}"))?;
        if from[BEGIN.len()..end].contains(BEGIN) {
            bail!("section {name} has no {END} before the next begins");
        }
        if seen.contains(&name) {
            bail!("section {name} is there twice");
        }
        seen.push(name);
        out.push_str(&format!(
            "{before}{BEGIN}{name} -->\n{}\n{END}",
            text.trim()
        ));
        rest = &from[end + END.len()..];
    }
    for (name, _) in sections {
        if !seen.contains(name) {
            bail!("no section {BEGIN}{name} -->");
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(page: &str) -> Result<String> {
        replaced(page, &[("a", "new\n".to_owned()), ("b", "two".to_owned())])
    }

    #[test]
    fn what_lies_outside_of_sections_stays() {
        let page = "1\n<!-- results:begin b -->\nold\n<!-- results:end -->\n2\n\
                    <!-- results:begin a --><!-- results:end -->3";
        let wanted = "1\n<!-- results:begin b -->\ntwo\n<!-- results:end -->\n2\n\
                      <!-- results:begin a -->\nnew\n<!-- results:end -->3";
        assert_eq!(made(page).unwrap(), wanted);
        assert_eq!(
            made(wanted).unwrap(),
            wanted,
            "a second time changes nothing"
        );
    }

    #[test]
    fn a_page_whose_sections_are_not_those_is_refused() {
        let a = "<!-- results:begin a -->\n<!-- results:end -->\n";
        let b = "<!-- results:begin b -->\n<!-- results:end -->\n";
        for (page, named) in [
            (a.to_owned(), "begin b"),
            (format!("{a}{a}{b}"), "twice"),
            (format!("{a}<!-- results:begin b -->\n"), "section b has no"),
            (format!("<!-- results:begin a -->\n{b}"), "section a has no"),
            (
                format!("{a}{b}<!-- results:begin c -->\n<!-- results:end -->"),
                "\"c\"",
            ),
        ] {
            let error = made(&page).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
