//! Where a peer is ahead of us: the first thing that a page says.

use super::read::{Run, Shape};
use super::tables::{PASSES, groups, sides, table, titled};

const OURS: &str = "ours";

/// Each pass and dtype: the furthest behind first, and how often we are not.
pub fn losses(run: &Run) -> String {
    let mut rows = Vec::new();
    for (pass, dtype, shapes) in groups(run) {
        let (mut fastest, mut compared, mut untimed) = (0, 0, Vec::new());
        let mut behind: Vec<Behind> = Vec::new();
        for shape in &shapes {
            match (run.rate(OURS, pass, shape), best_peer(run, pass, shape)) {
                (Some(ours), Some((peer, rate))) => {
                    compared += 1;
                    if ours >= rate {
                        fastest += 1;
                    } else {
                        behind.push(Behind {
                            pass,
                            shape,
                            peer,
                            share: ours / rate,
                        });
                    }
                }
                (None, Some(_)) => untimed.push(format!("{} is without ours", sides(shape))),
                (_, None) => {}
            }
        }
        behind.sort_by(|a, b| a.share.total_cmp(&b.share));
        let said = behind
            .iter()
            .map(|one| format!("{} at {}", one.text(), sides(one.shape)));
        let said: Vec<_> = said.chain(untimed).collect();
        if !(said.is_empty() && compared == 0) {
            rows.push(vec![
                pass.to_owned(),
                dtype.to_owned(),
                format!("{fastest} of {compared}"),
                said.join("; "),
            ]);
        }
    }
    titled(
        run,
        table(
            &["pass", "x", "ours is the fastest", "ours is behind"],
            rows,
        ),
    )
}

/// In a sentence: how often we are the fastest, and where we are furthest behind. Nothing where nobody was compared.
pub fn summary(run: &Run) -> String {
    let (mut fastest, mut compared) = (0, 0);
    let mut worst: Option<Behind> = None;
    let shapes = run.shapes(true);
    for pass in PASSES {
        for shape in &shapes {
            let (Some(ours), Some((peer, rate))) =
                (run.rate(OURS, pass, shape), best_peer(run, pass, shape))
            else {
                continue;
            };
            compared += 1;
            fastest += usize::from(ours >= rate);
            let share = ours / rate;
            if share < worst.as_ref().map_or(1.0, |worst| worst.share) {
                worst = Some(Behind {
                    pass,
                    shape,
                    peer,
                    share,
                });
            }
        }
    }
    if compared == 0 {
        return String::new();
    }
    let worst = worst.map_or_else(String::new, |worst| {
        let (pass, shape, behind) = (worst.pass, worst.shape, worst.text());
        format!(
            "; furthest behind at {pass}, {} {}: {behind}",
            sides(shape),
            shape.dtype
        )
    });
    format!("\nOf all {compared} that were measured, ours is the fastest at {fastest}{worst}.\n")
}

struct Behind<'a> {
    pass: &'a str,
    shape: &'a Shape,
    peer: &'a str,
    /// Our rate over the peer's.
    share: f64,
}

impl Behind<'_> {
    fn text(&self) -> String {
        match 100.0 * (1.0 - self.share) {
            percent if percent < 0.5 => format!("under 1 % behind {}", self.peer),
            percent => format!("{percent:.0} % behind {}", self.peer),
        }
    }
}

fn best_peer<'a>(run: &'a Run, pass: &str, shape: &Shape) -> Option<(&'a str, f64)> {
    let peers = run
        .providers()
        .into_iter()
        .filter(|provider| *provider != OURS);
    let rates = peers.filter_map(|peer| Some((peer, run.rate(peer, pass, shape)?)));
    rates.max_by(|a, b| a.1.total_cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::read::of_lines as run;

    #[test]
    fn a_loss_is_said_with_its_winner() {
        let made = losses(&run("
            copy copy speed bf16 32x8 1
            ours forward speed bf16 32x8 2
            torch forward speed bf16 32x8 4
            liger forward speed bf16 32x8 1.6
            copy copy speed bf16 16x8 1
            ours forward speed bf16 16x8 2
            torch forward speed bf16 16x8 2
            torch both speed bf16 16x8 4"));
        assert!(
            made.contains("| forward | bf16 | 1 of 2 | 20 % behind liger at 32 x 8 |\n"),
            "{made}"
        );
        assert!(
            made.contains("| both | bf16 | 0 of 0 | 16 x 8 is without ours |\n"),
            "{made}"
        );
    }

    #[test]
    fn the_furthest_behind_comes_first() {
        let made = losses(&run("
            copy copy speed f32 2x8 1
            ours forward speed f32 2x8 2
            torch forward speed f32 2x8 1.998
            copy copy speed f32 3x8 1
            ours forward speed f32 3x8 2
            torch forward speed f32 3x8 1"));
        let wanted = "| forward | f32 | 0 of 2 | 50 % behind torch at 3 x 8; under 1 % behind torch at 2 x 8 |\n";
        assert!(made.contains(wanted), "{made}");
    }

    #[test]
    fn the_sentence_has_the_worst_of_all() {
        let two = run("
            copy copy speed bf16 2x1024 1
            ours forward speed bf16 2x1024 2
            torch forward speed bf16 2x1024 4
            copy copy speed f32 2x77 1
            ours backward speed f32 2x77 4
            torch backward speed f32 2x77 1");
        let wanted = "\nOf all 2 that were measured, ours is the fastest at 1; \
                      furthest behind at backward, 2 x 77 f32: 75 % behind torch.\n";
        assert_eq!(summary(&two), wanted);
        let alone = run("copy copy speed f32 2x77 1\nours forward speed f32 2x77 2");
        assert_eq!(summary(&alone), "", "nobody was compared");
    }
}
