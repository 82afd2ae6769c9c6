//! Rows as a table for people and as JSON for programs.

use std::path::Path;

use anyhow::Context as _;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;

/// What a row should reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// One measured thing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured; the same words in every run.
    pub row: String,
    /// How many tenants there were; 0 where that does not matter.
    pub tenants: u64,
    /// The median of all rounds. `None`: it could not be measured, and `row` says why.
    pub value: Option<f64>,
    /// The least of all rounds.
    pub min: Option<f64>,
    /// The most.
    pub max: Option<f64>,
    /// In which unit.
    pub unit: &'static str,
    /// What it should be, in words.
    pub goal: Option<String>,
    /// Whether the median is what it should be.
    pub met: Option<bool>,
}

impl Row {
    /// A row from what every round measured.
    pub fn measured(row: impl Into<String>, tenants: u64, unit: &'static str, rounds: &[f64]) -> Self {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2).copied();
        let (min, max) = (sorted.first().copied(), sorted.last().copied());
        Self { row: row.into(), tenants, value: median, min, max, unit, goal: None, met: None }
    }

    /// A row that could not be measured.
    pub fn skipped(row: &str, tenants: u64, unit: &'static str, reason: &str) -> Self {
        Self { row: format!("{row}: skipped, {reason}"), ..Self::measured("", tenants, unit, &[]) }
    }

    /// Holds it against a goal.
    #[must_use]
    pub fn goal(self, goal: Goal) -> Self {
        let (text, met) = match goal {
            Goal::AtMost(most) => (format!("≤ {}", number(most)), self.value.map(|value| value <= most)),
            Goal::AtLeast(least) => (format!("≥ {}", number(least)), self.value.map(|value| value >= least)),
        };
        Self { goal: Some(text), met, ..self }
    }
}

/// The rows as a table.
pub fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["row", "tenants", "value", "min", "max", "unit", "goal", "met"]);
    for row in rows {
        let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), number);
        table.add_row([
            row.row.clone(),
            if row.tenants == 0 { "–".to_owned() } else { grouped(row.tenants) },
            shown(row.value),
            shown(row.min),
            shown(row.max),
            row.unit.to_owned(),
            row.goal.clone().unwrap_or_else(|| "–".to_owned()),
            row.met.map_or("–", |met| if met { "yes" } else { "no" }).to_owned(),
        ]);
    }
    table.to_string()
}

/// Writes the rows as a JSON array.
pub fn write(rows: &[Row], to: &Path) -> anyhow::Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make `{}`", folder.display()))?;
    }
    let json = serde_json::to_string_pretty(rows)?;
    std::fs::write(to, json + "\n").with_context(|| format!("write `{}`", to.display()))
}

/// Three significant digits, and thousands apart.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of 1,000 and more are shown whole")]
fn number(value: f64) -> String {
    match value.abs() {
        1_000.0.. => grouped(value.round() as u64),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ if value == 0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}

fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_median_of_its_rounds_against_its_goal() {
        let row = Row::measured("unary", 1_000_000, "µs", &[5.0, 1.0, 3.0]).goal(Goal::AtMost(3.0));
        assert_eq!((row.value, row.min, row.max), (Some(3.0), Some(1.0), Some(5.0)));
        assert_eq!((row.goal.as_deref(), row.met), (Some("≤ 3.00"), Some(true)));
        assert_eq!(Row::skipped("instructions", 0, "count", "no valgrind").goal(Goal::AtMost(1.0)).met, None);
        let table = table(&[row]);
        assert!(table.contains("1,000,000") && table.contains("yes"), "{table}");
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in
            [(0.0, "0"), (0.1234, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (1_234_567.0, "1,234,567")]
        {
            assert_eq!(number(value), text);
        }
    }
}
