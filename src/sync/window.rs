//! Whether a maintenance window is open.

use jiff::Timestamp;

use crate::config::{Window, Zone};

/// Whether `now` lies in `window`, read in `zone`. An end before the start runs past midnight, into the next day.
pub(super) fn is_open(window: &Window, zone: &Zone, now: Timestamp) -> bool {
    let local = now.to_zoned(zone.zone.clone());
    let minute = u16::try_from(local.hour()).unwrap_or(0) * 60 + u16::try_from(local.minute()).unwrap_or(0);
    let today = usize::try_from(local.weekday().to_monday_zero_offset()).unwrap_or(0);
    let yesterday = (today + 6) % 7;
    let starts = |day: usize| window.days.get(day).copied().unwrap_or(false);
    if window.from < window.to {
        return starts(today) && (window.from..window.to).contains(&minute);
    }
    (starts(today) && minute >= window.from) || (starts(yesterday) && minute < window.to)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    /// The zone of most tests.
    fn utc() -> Zone {
        Zone { name: "UTC".into(), zone: TimeZone::UTC }
    }

    #[test]
    fn days_minutes_and_midnight() {
        let weekend = [false, false, false, false, false, true, true];
        let night = Window { text: String::new(), days: weekend, from: 120, to: 240 };
        let across = Window { text: String::new(), days: weekend, from: 23 * 60, to: 60 };
        for (window, at, expected) in [
            (&night, "2026-11-21T02:00:00Z", true),
            (&night, "2026-11-21T01:59:59Z", false),
            (&night, "2026-11-21T03:59:59Z", true),
            (&night, "2026-11-21T04:00:00Z", false),
            (&night, "2026-11-23T03:00:00Z", false),
            (&across, "2026-11-21T23:30:00Z", true),
            (&across, "2026-11-22T00:30:00Z", true),
            (&across, "2026-11-23T00:30:00Z", true),
            (&across, "2026-11-23T01:00:00Z", false),
            (&across, "2026-11-21T00:30:00Z", false),
        ] {
            assert_eq!(is_open(window, &utc(), at.parse().unwrap()), expected, "{at}");
        }
    }

    #[test]
    fn it_is_read_in_its_zone() {
        let window = Window { text: String::new(), days: [true; 7], from: 120, to: 180 };
        let shanghai = Zone { name: "Asia/Shanghai".into(), zone: TimeZone::get("Asia/Shanghai").unwrap() };
        assert!(is_open(&window, &shanghai, "2026-11-20T18:30:00Z".parse().unwrap()));
        assert!(!is_open(&window, &shanghai, "2026-11-20T02:30:00Z".parse().unwrap()));
    }
}
