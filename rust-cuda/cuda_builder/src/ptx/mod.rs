//! PTX as text: what `cuda_builder` does to it after the compiler, and what it looks for in it.

mod check;
mod finish;

pub use check::{Finding, Problem, check_ptx};
pub use finish::{MarkerError, finish_ptx};

/// The names of the entry points, in the file's order.
pub fn entry_names(ptx: &str) -> Vec<&str> {
    ptx.lines().filter_map(entry_name).collect()
}

/// The name, if the line begins an entry point.
fn entry_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once(".entry ")?;
    if !matches!(before.trim(), "" | ".visible" | ".weak") {
        return None;
    }
    let end = after.find(|c: char| !is_symbol_character(c));
    Some(&after[..end.unwrap_or(after.len())])
}

/// Whether a character can be in a PTX identifier.
fn is_symbol_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '%')
}

/// Which entry point a line is in, as the lines go by. Braces are counted, since an assembly block
/// may close one at the start of a line.
#[derive(Default)]
struct Scope {
    entry: Option<usize>,
    depth: usize,
}

impl Scope {
    /// Takes the next line. The number of the line that began the entry point it is in, if it is in
    /// one.
    fn enter(&mut self, number: usize, line: &str) -> Option<usize> {
        if self.depth == 0 && entry_name(line).is_some() {
            self.entry = Some(number);
        }
        let current = self.entry;
        let code = code(line);
        let opened = code.matches('{').count();
        let closed = code.matches('}').count();
        let closes_the_entry = closed > opened && self.depth + opened == closed;
        self.depth = (self.depth + opened).saturating_sub(closed);
        if closes_the_entry {
            self.entry = None;
        }
        current
    }
}

/// The line without its comment.
fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_names_come_in_order() {
        let ptx = ".visible .entry b(\n.param .u64 b_param_0\n)\n{\nret;\n}\n\t.entry a()\n{\n}\n";
        assert_eq!(entry_names(ptx), ["b", "a"]);
    }

    #[test]
    fn a_scope_ends_with_its_entry_points_own_brace() {
        let mut scope = Scope::default();
        let lines = [
            ".visible .entry k(",
            ".param .u64 p)",
            "{",
            "{",
            "ld.global.v2.b32 {%r1, %r2}, [%rd1];",
            "}",
            "ret;",
            "}",
            "",
        ];
        let entries: Vec<_> = (0..)
            .zip(lines)
            .map(|(n, line)| scope.enter(n, line))
            .collect();
        assert_eq!(entries[..8], [Some(0); 8]);
        assert_eq!(entries[8], None);
    }

    #[test]
    fn a_comment_about_an_entry_is_none() {
        assert_eq!(entry_names("// the .entry point\n"), [""; 0]);
    }
}
