//! The difference between two documents, line by line of their YAML, for people.

use std::fmt::Write as _;

/// A line of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// In both.
    Same(&'a str),
    /// Only in the old one.
    Gone(&'a str),
    /// Only in the new one.
    New(&'a str),
}

/// Most lines that are compared: beyond it the quadratic table grows large, and everything is shown as replaced.
const LINES_MAX: usize = 4_000;

/// Lines of both texts in order, by their longest common subsequence.
pub fn lines<'a>(old: &'a str, new: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    if old.len().max(new.len()) > LINES_MAX {
        let gone = old.into_iter().map(Line::Gone);
        return gone.chain(new.into_iter().map(Line::New)).collect();
    }
    // common[i][j]: how many lines the rests from i and j have in common.
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(Line::Gone(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
    lines
}

/// The difference as text, `-` and `+` before lines, with a few lines around for orientation.
pub fn show(old: &str, new: &str, colours: bool) -> String {
    let lines = lines(old, new);
    let changed: Vec<usize> =
        lines.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Same(_))).map(|(at, _)| at).collect();
    let near = |at: usize| changed.iter().any(|change| change.abs_diff(at) <= 2);
    let (red, green, plain) = if colours { ("\u{1b}[31m", "\u{1b}[32m", "\u{1b}[0m") } else { ("", "", "") };
    let (mut text, mut skipped) = (String::new(), false);
    for (at, line) in lines.iter().enumerate() {
        let written = match line {
            Line::Same(line) if near(at) => writeln!(text, "    {line}"),
            Line::Same(_) if !skipped => writeln!(text, "    …"),
            Line::Same(_) => Ok(()),
            Line::Gone(line) => writeln!(text, "  {red}- {line}{plain}"),
            Line::New(line) => writeln!(text, "  {green}+ {line}{plain}"),
        };
        skipped = matches!(line, Line::Same(_)) && !near(at);
        written.unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stayed_is_found_and_the_rest_is_marked() {
        let (old, new) = ("plan: gold\nlimits:\n  a: 1\n  b: 2\n", "plan: gold\ntitle: Gold\nlimits:\n  a: 1\n  b: 3\n");
        let expected = "    plan: gold\n  + title: Gold\n    limits:\n      a: 1\n  -   b: 2\n  +   b: 3\n";
        assert_eq!(show(old, new, false), expected);
        assert!(show(old, new, true).contains("\u{1b}[32m+ title: Gold\u{1b}[0m"));
        assert_eq!(show(old, old, false), "    …\n");
    }

    #[test]
    fn both_texts_can_be_had_back() {
        let pairs = [("", "a\nb"), ("a\nb", ""), ("a\nb\nc\nd", "b\nd\ne"), ("x\ny", "y\nx")];
        for (old, new) in pairs {
            let lines = lines(old, new);
            let side = |keep: fn(&Line<'_>) -> bool| -> Vec<String> {
                let text = |line: &Line<'_>| match line {
                    Line::Same(text) | Line::Gone(text) | Line::New(text) => (*text).to_owned(),
                };
                lines.iter().filter(|line| keep(line)).map(text).collect()
            };
            assert_eq!(side(|line| !matches!(line, Line::New(_))), old.lines().collect::<Vec<_>>());
            assert_eq!(side(|line| !matches!(line, Line::Gone(_))), new.lines().collect::<Vec<_>>());
        }
    }

    #[test]
    fn long_texts_are_not_compared_line_by_line() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert_eq!(lines(&long, "x").len(), LINES_MAX + 2);
    }
}
