//! Text into times: durations, schedules, zones, maintenance windows; and durations back into text.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds};
use jiff::tz::TimeZone;

use super::settings::{Cron, Window, Zone};
use super::values::{Wrong, nearest};

/// What a duration must be.
pub(super) const DURATION: &str = "a duration such as `90s`, `10m`, `24h`, `7d`";
/// What a schedule must be.
pub(super) const SCHEDULE: &str = "a cron expression of six fields: second minute hour day month weekday";
/// What a zone must be.
pub(super) const ZONE: &str = "`local`, `UTC` or an IANA name such as `Asia/Shanghai`";
/// What a window must be.
pub(super) const WINDOW: &str = "days and times such as `Sat,Sun 02:00-04:00`, `Mon-Fri 22:00-05:00`, `daily 02:00-04:00`";

/// Longest schedule, in bytes.
pub(super) const MAX_SCHEDULE: usize = 200;

/// `90s`, `1h30m`, `500ms`: whole numbers with units, largest first, within bounds.
pub(super) fn duration(text: &str, bounds: &RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    let (mut rest, mut total, mut last_unit) = (text, 0_u64, u64::MAX);
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return Err(Wrong::new().with_hint(format!("`{}s` would be seconds", super::values::quote(text))));
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let word = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(word);
        let unit = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, milliseconds)| *milliseconds).ok_or_else(Wrong::new)?;
        let number: u64 = number.parse().map_err(|_| Wrong::new())?;
        if unit >= last_unit {
            return Err(Wrong::new());
        }
        total = number.checked_mul(unit).and_then(|part| part.checked_add(total)).ok_or_else(Wrong::new)?;
        (rest, last_unit) = (after, unit);
    }
    let duration = Duration::from_millis(total);
    if text.is_empty() {
        return Err(Wrong::new());
    }
    if !bounds.contains(&duration) {
        return Err(Wrong::expected(format!("a duration from {} to {}", show(*bounds.start()), show(*bounds.end()))));
    }
    Ok(duration)
}

/// A duration as [`duration`] reads it: `1h30m`.
pub(super) fn show(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, milliseconds) in UNITS {
        if rest >= milliseconds {
            text.push_str(&format!("{}{name}", rest / milliseconds));
            rest %= milliseconds;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A schedule in the dialect of tokio-cron-scheduler (`Job::new_async_tz`: seconds required, day of month *and* weekday).
///
/// Five fields, as crontab has them, get a leading `0 `. Seven (with a year) are refused: such a schedule stops for good.
pub(super) fn cron(text: &str) -> Result<Cron, Wrong> {
    if text.len() > MAX_SCHEDULE || !text.is_ascii() {
        return Err(Wrong::expected(format!("{SCHEDULE}, in at most {MAX_SCHEDULE} ASCII characters")));
    }
    let expression = match (text.split_whitespace().count(), NICKNAMES.contains(&text.trim())) {
        (1, true) => text.trim().to_owned(),
        (5, _) => format!("0 {}", text.trim()),
        (6, _) => text.trim().to_owned(),
        (found, _) => return Err(Wrong::expected(format!("{SCHEDULE}; found {found}"))),
    };
    let pattern = CronParser::builder()
        .seconds(Seconds::Required)
        .dom_and_dow(true)
        .build()
        .parse(&expression)
        .map_err(|error| Wrong::hint(Some(why(&error))))?;
    if !ever(&pattern) {
        return Err(
            Wrong::expected("a cron expression that matches some day").with_hint("no day of the calendar fits all its fields")
        );
    }
    Ok(Cron { expression, pattern })
}

const NICKNAMES: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];

fn why(error: &croner::errors::CronError) -> String {
    let text = error.to_string();
    let text = text.split_once(": ").map_or(text.as_str(), |(_, reason)| reason).trim_end_matches('.');
    text.replace("CronPattern ", "it ").to_ascii_lowercase()
}

/// Whether it matches at all. Without a year field the calendar repeats, so any start answers for all times.
fn ever(pattern: &croner::Cron) -> bool {
    let start = DateTime::<Utc>::from_timestamp(START_OF_2024, 0).unwrap_or_default();
    pattern.find_next_occurrence(&start, true).is_ok()
}

const START_OF_2024: i64 = 1_704_067_200;

/// `local`, `UTC`, or a name of the system's time zone database.
pub(super) fn zone(text: &str) -> Result<Zone, Wrong> {
    let zone = match text {
        "local" => TimeZone::system(),
        "UTC" => TimeZone::UTC,
        name => TimeZone::get(name).map_err(|_| unknown_zone(name))?,
    };
    Ok(Zone { name: text.to_owned(), zone })
}

fn unknown_zone(name: &str) -> Wrong {
    let zones: Vec<String> = jiff::tz::db().available().map(|zone| zone.as_str().to_owned()).collect();
    if zones.is_empty() {
        return Wrong::new().with_hint("this machine has no time zone database: install the package `tzdata`");
    }
    let words = zones.iter().map(String::as_str).chain(["local", "UTC"]);
    Wrong::hint(nearest(name, words).map(|near| format!("did you mean `{near}`?")))
}

/// `Sat,Sun 02:00-04:00`, `Mon-Fri 22:00-05:00`, `daily 02:00-04:00`.
pub(super) fn window(text: &str) -> Result<Window, Wrong> {
    let mut parts = text.split_whitespace();
    let (Some(days), Some(times), None) = (parts.next(), parts.next(), parts.next()) else {
        let times_only = text.starts_with(|c: char| c.is_ascii_digit());
        return Err(Wrong::hint(times_only.then(|| "put `daily` or days before the times".to_owned())));
    };
    let (from, to) = times.split_once('-').ok_or_else(Wrong::new)?;
    let (from, to) = (minute(from).filter(|from| *from < DAY), minute(to));
    let (Some(from), Some(to)) = (from, to) else { return Err(Wrong::expected("times from `00:00` to `24:00`")) };
    if from == to {
        return Err(Wrong::expected("a window that is longer than nothing").with_hint("leave `window` out to allow all times"));
    }
    Ok(Window { text: text.to_owned(), days: weekdays(days)?, from, to })
}

const DAY: u16 = 24 * 60;

/// `02:30` in minutes after midnight.
fn minute(text: &str) -> Option<u16> {
    let two_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    let (hour, minute) = text.split_once(':').filter(|(hour, minute)| (1..=2).contains(&hour.len()) && minute.len() == 2)?;
    let (hour, minute): (u16, u16) = (two_digits(hour)?, two_digits(minute)?);
    Some(hour * 60 + minute).filter(|at| minute < 60 && *at <= DAY)
}

/// `Sat,Sun`, `Mon-Fri`, `Fri-Mon`, `daily`.
fn weekdays(text: &str) -> Result<[bool; 7], Wrong> {
    if text.eq_ignore_ascii_case("daily") {
        return Ok([true; 7]);
    }
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (weekday(first)?, weekday(last)?);
        let length = (last + 7 - first) % 7;
        for (day, on) in days.iter_mut().enumerate() {
            *on |= (day + 7 - first) % 7 <= length;
        }
    }
    Ok(days)
}

fn weekday(text: &str) -> Result<usize, Wrong> {
    let same = |(short, long): &(&str, &str)| text.eq_ignore_ascii_case(short) || text.eq_ignore_ascii_case(long);
    WEEKDAYS.iter().position(same).ok_or_else(|| {
        let names = WEEKDAYS.iter().flat_map(|(short, long)| [*short, *long]).chain(["daily"]);
        Wrong::expected("days such as `Sat,Sun`, `Mon-Fri` or `daily`").with_hint(
            nearest(text, names).map_or("`Mon Tue Wed Thu Fri Sat Sun`".to_owned(), |near| format!("did you mean `{near}`?")),
        )
    })
}

const WEEKDAYS: [(&str, &str); 7] = [
    ("Mon", "Monday"),
    ("Tue", "Tuesday"),
    ("Wed", "Wednesday"),
    ("Thu", "Thursday"),
    ("Fri", "Friday"),
    ("Sat", "Saturday"),
    ("Sun", "Sunday"),
];

impl FromStr for Cron {
    type Err = String;

    /// As in `daemon.schedule`; the error says what was expected.
    fn from_str(text: &str) -> Result<Cron, String> {
        cron(text).map_err(|wrong| wrong.sentence(SCHEDULE))
    }
}

impl FromStr for Zone {
    type Err = String;

    /// As in `daemon.timezone`; the error says what was expected.
    fn from_str(text: &str) -> Result<Zone, String> {
        zone(text).map_err(|wrong| wrong.sentence(ZONE))
    }
}

impl FromStr for Window {
    type Err = String;

    /// As in `deploy.NAME.window`; the error says what was expected.
    fn from_str(text: &str) -> Result<Window, String> {
        window(text).map_err(|wrong| wrong.sentence(WINDOW))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const ANY: RangeInclusive<Duration> = Duration::ZERO..=Duration::MAX;

    #[test]
    fn durations_and_back() {
        for (text, seconds) in
            [("90s", 90), ("10m", 600), ("24h", 86_400), ("7d", 604_800), ("1h30m", 5_400), ("0s", 0), ("1d1s", 86_401)]
        {
            let read = duration(text, &ANY).unwrap();
            assert_eq!(read, Duration::from_secs(seconds), "{text}");
            assert_eq!(duration(&show(read), &ANY), Ok(read));
        }
        assert_eq!(duration("500ms", &ANY), Ok(Duration::from_millis(500)));
        assert_eq!(show(Duration::from_millis(90_500)), "1m30s500ms");
    }

    #[test]
    fn what_is_no_duration() {
        for bad in [
            "",
            "15",
            "s",
            "1.5s",
            "-1s",
            "+1s",
            "1 s",
            "30m1h",
            "1s1s",
            "1w",
            "1M",
            "99999999999999999999s",
            "18446744073709551615d",
            "1S",
            "１s",
        ] {
            assert!(duration(bad, &ANY).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_keep_their_bounds() {
        let bounds = Duration::from_secs(1)..=Duration::from_secs(60);
        assert!(duration("1s", &bounds).is_ok() && duration("1m", &bounds).is_ok());
        let wrong = Wrong::expected("a duration from 1s to 1m");
        assert_eq!(duration("999ms", &bounds).unwrap_err(), wrong);
        assert_eq!(duration("60s1ms", &bounds).unwrap_err(), wrong);
    }

    #[test]
    fn schedules() {
        assert_eq!(cron("0 */10 * * * *").unwrap().expression, "0 */10 * * * *");
        assert_eq!(cron("*/5 * * * *").unwrap().expression, "0 */5 * * * *");
        assert_eq!(cron(" 0 0 3 * * MON-FRI ").unwrap().expression, "0 0 3 * * MON-FRI");
        assert!(cron("@hourly").is_ok());
        for bad in [
            "",
            "* * * *",
            "61 * * * * *",
            "0 0 0 * * * 2030",
            "@every",
            "@",
            "every hour",
            "0 0 0 30 2 *",
            "0 0 0 31 4,6,9,11 *",
            "\u{0660} * * * * *",
        ] {
            assert!(cron(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_day_of_month_and_a_weekday_must_both_fit() {
        let pattern = cron("0 0 0 13 * FRI").unwrap().pattern;
        let start = DateTime::<Utc>::from_timestamp(START_OF_2024, 0).unwrap();
        assert_eq!(pattern.find_next_occurrence(&start, true).unwrap().to_string(), "2024-09-13 00:00:00 UTC");
    }

    #[test]
    fn zones() {
        assert_eq!(zone("UTC").unwrap().zone, TimeZone::UTC);
        assert!(zone("local").is_ok() && zone("Asia/Shanghai").is_ok());
        assert_eq!(zone("Asia/Shangai").unwrap_err().hint.unwrap(), "did you mean `Asia/Shanghai`?");
        assert!(zone("").is_err() && zone("../../etc/passwd").is_err());
    }

    #[test]
    fn windows() {
        let read = window("Sat,Sun 02:00-04:00").unwrap();
        assert_eq!((read.days, read.from, read.to), ([false, false, false, false, false, true, true], 120, 240));
        assert_eq!(window("Mon-Fri 22:00-05:00").unwrap().days, [true, true, true, true, true, false, false]);
        assert_eq!(window("fri-monday 0:00-24:00").unwrap().days, [true, false, false, false, true, true, true]);
        assert_eq!(window("daily 23:59-24:00").unwrap().to, 1440);
        for bad in [
            "",
            "02:00-04:00",
            "daily",
            "daily 02:00",
            "daily 2-4",
            "daily 02:60-04:00",
            "daily 24:00-01:00",
            "daily 02:00-02:00",
            "Sam 02:00-04:00",
            "Sat, Sun 02:00-04:00",
            ",Sat 1:00-2:00",
            "daily 02:00-24:01",
        ] {
            assert!(window(bad).is_err(), "{bad:?}");
        }
    }
}
