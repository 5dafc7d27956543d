//! Rounds, medians and the table.

use std::time::Duration;

/// One figure beside another of the same run.
pub struct Row {
    pub figure: String,
    pub ours: String,
    pub other: String,
    pub ratio: String,
    pub goal: String,
    pub met: bool,
}

/// Runs two things in turn, so that whatever else the machine does meets both; the median of each.
pub fn in_turn(rounds: usize, mut one: impl FnMut() -> Duration, mut other: impl FnMut() -> Duration) -> (Duration, Duration) {
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        others.push(other());
        ones.push(one());
    }
    (median(ones), median(others))
}

pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

pub fn shown(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 10.0 => format!("{seconds:.0} s"),
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds if seconds >= 0.01 => format!("{:.0} ms", seconds * 1e3),
        seconds if seconds >= 0.001 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{:.0} µs", seconds * 1e6),
    }
}

pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// As Markdown, so that it can be pasted.
pub fn print(rows: &[Row]) {
    let head = ["figure", "certsyncd", "the other", "ratio", "goal", "met"].map(str::to_owned);
    let body = rows.iter().map(|row| {
        let met = if row.met { "yes" } else { "**no**" };
        [&row.figure, &row.ours, &row.other, &row.ratio, &row.goal, met].map(String::from)
    });
    let lines: Vec<[String; 6]> = std::iter::once(head).chain(body).collect();
    let widths: Vec<usize> =
        (0..6).map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()).collect();
    for (number, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("| {} |", cells.join(" | "));
        if number == 0 {
            println!("|{}|", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|"));
        }
    }
}
